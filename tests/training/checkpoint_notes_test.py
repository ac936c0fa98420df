"""Notes beside a checkpoint: any change is found, and those of earlier versions are read."""

import json
import math

import pytest
from etils import epath

from jaxlung.training import checkpoint_notes as notes_lib

PROGRESS = {"control": {"plateau_best": 0.25, "stopped": False}, "epochs": [{"loss": math.nan}]}
DEEP = "[" * 100_000  # more than Python's JSON descends
NOTES = notes_lib.Notes(
    PROGRESS, -0.75, {".params['kernel']": notes_lib.Leaf(17, "float32", (2, 3))}
)


def write(folder, content):
    (folder / "progress").mkdir(exist_ok=True)
    (folder / "progress" / "metadata").write_text(json.dumps(content))
    return epath.Path(folder)


def write_earlier(folder, metrics):
    """Notes as versions without a digest of them wrote them."""
    (folder / "metrics").mkdir()
    (folder / "metrics" / "metrics").write_text(metrics)
    return write(folder, {"control": {"plateau_best": 0.25}, "digests": {".params['kernel']": 17}})


def test_what_was_written_is_read(tmp_path):
    got = notes_lib.load(write(tmp_path, notes_lib.to_json(NOTES)))
    assert str(got) == str(NOTES)  # As text, in which NaN equals itself.


def test_no_changed_byte_goes_unnoticed(tmp_path):
    folder = write(tmp_path, notes_lib.to_json(NOTES))
    file = folder / "progress" / "metadata"
    good = file.read_bytes()
    named = 0
    for place in range(len(good)):
        changed = bytearray(good)
        changed[place] ^= 1 << place % 8
        file.write_bytes(bytes(changed))
        try:
            assert str(notes_lib.load(folder)) == str(NOTES), place
        except notes_lib.Damaged:
            named += 1
    assert named > 0.9 * len(good)  # Between two values a space may become a tab.


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{}", '{"digests": 3}', "\x00", DEEP])
def test_other_content_is_damage(tmp_path, text):
    write(tmp_path, {})
    (tmp_path / "progress" / "metadata").write_text(text)
    with pytest.raises(notes_lib.Damaged, match="its notes"):
        notes_lib.load(epath.Path(tmp_path))


@pytest.mark.parametrize("name", ["rank", "val_loss"])
def test_notes_of_earlier_versions_are_read(tmp_path, name):
    got = notes_lib.load(write_earlier(tmp_path, json.dumps({name: 0.5})))
    want = notes_lib.Notes(
        {"control": {"plateau_best": 0.25}}, 0.5, {".params['kernel']": notes_lib.Leaf(17)}
    )
    assert got == want


@pytest.mark.parametrize(
    "metrics", ["", "{", "[]", "3", "{}", '{"rank": null}', '{"rank": "x"}', DEEP]
)
def test_a_damaged_rank_of_an_earlier_version_is_not_known(tmp_path, metrics):
    assert notes_lib.load(write_earlier(tmp_path, metrics)).rank is None


def test_the_best_is_the_lowest_finite_rank_and_of_equals_the_later():
    assert notes_lib.find_best({1: 0.5, 2: 0.25, 3: 0.25, 4: math.inf, 5: None}) == 3
    assert notes_lib.find_best({1: math.inf, 2: None, 3: math.nan}) is None


def test_the_digest_of_weights_is_of_parameters_and_statistics_alone():
    digests = {".params['a']": 1, ".batch_stats['b']": 2, ".opt_state[0]": 3, ".step": 4}
    digest = notes_lib.digest_weights(digests)
    assert digest == notes_lib.digest_weights(digests | {".step": 5, ".opt_state[0]": 6})
    assert digest != notes_lib.digest_weights(digests | {".params['a']": 2})
    assert digest != notes_lib.digest_weights(digests | {".batch_stats['b']": 1})
