"""Tests that damaged, truncated or partly copied data are an error that names the file."""

import json
import pathlib
import shutil

import pytest

from jaxlung.data import record
from jaxlung.data.sources import datasets, receipt
from tfds_builders.phantoms import covid_qu_ex as phantom

FIELDS = dict(name="covid_qu_ex/infection", download=False, phantom_images=0)
PLACE = pathlib.Path("covid_qu_ex/infection/1.0.0")
SHARD = "covid_qu_ex-train.array_record-00000-of-00001"


def open_splits(data_dir, raw=""):
    fields = FIELDS | dict(data_dir=str(data_dir), raw_dir=str(raw))
    return datasets.open_splits(fields, needs=record.LUNG | record.INFECTION, seed=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    raw = phantom.write(folder / "raw", 20, image_size=16)
    open_splits(folder / "data", raw)
    return folder / "data"


@pytest.fixture
def data_dir(made, tmp_path):
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path, at=None):
    content = bytearray(path.read_bytes())
    content[min(200, len(content) // 2) if at is None else at] ^= 1
    path.write_bytes(content)


def forget_files(place):
    """As earlier versions wrote it."""
    note = json.loads((place / receipt.FILE).read_text())
    (place / receipt.FILE).write_text(json.dumps({"raw_dir": note["raw_dir"]}))


FILES = [SHARD, "dataset_info.json", "features.json", "label.labels.txt"]


def empty(path):
    path.write_bytes(b"")


def read_everyone(data_dir):
    return [source.people() for source in open_splits(data_dir).values()]


@pytest.mark.parametrize("damage", [pathlib.Path.unlink, cut, flip, empty])
@pytest.mark.parametrize("name", FILES)
def test_every_file_is_noticed_when_missing_or_changed(data_dir, name, damage):
    file = data_dir / PLACE / name
    damage(file)
    with pytest.raises(ValueError, match=r"remove the folder .*1\.0\.0 and run") as caught:
        read_everyone(data_dir)
    assert str(caught.value).startswith(f"{file}: damaged (")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [pathlib.Path.unlink, cut, empty])
def test_a_shard_that_was_copied_by_half_is_told_before_any_is_read(data_dir, damage):
    damage(data_dir / PLACE / SHARD)
    message = rf"{SHARD}: damaged \((it is missing|want \d+ bytes, got)"
    with pytest.raises(ValueError, match=message):
        open_splits(data_dir)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"raw_dir": "x", "bytes": 3}', '{"bytes": {}}', "[" * 100_000]
)
def test_a_damaged_note_is_named(data_dir, text):
    (data_dir / PLACE / receipt.FILE).write_text(text)
    with pytest.raises(ValueError, match=rf"{receipt.FILE}: damaged \("):
        open_splits(data_dir)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": "0.9.0"}', '{"splits": 3}', "\0", "[" * 100_000]
)
def test_older_notes_without_digests_leave_it_to_tfds(data_dir, text):
    forget_files(data_dir / PLACE)
    assert len(open_splits(data_dir)["train"])
    (data_dir / PLACE / "dataset_info.json").write_text(text)
    with pytest.raises(ValueError, match=r"dataset_info\.json: damaged \(") as caught:
        open_splits(data_dir)
    assert "\n" not in str(caught.value)


def test_a_shard_that_older_notes_do_not_name_is_told_when_it_is_read(data_dir):
    forget_files(data_dir / PLACE)
    (data_dir / PLACE / SHARD).unlink()
    source = open_splits(data_dir)["train"]
    with pytest.raises(ValueError, match=rf"{SHARD}: damaged \("):
        source[0]


def test_a_changed_byte_of_a_record_is_never_silent(data_dir):
    """Flips all over the shard: the record is the same to the bit, or its file is named."""
    file = data_dir / PLACE / SHARD
    content = file.read_bytes()

    def read():
        source = open_splits(data_dir)["train"]
        items = [source[i] for i in range(len(source))]
        return [(x.image.tobytes(), x.mask.tobytes(), x.image_id, x.group) for x in items]

    want, told = read(), 0
    size = content.rindex(want[-1][2].encode()) + 100  # Padding follows.
    for at in range(0, size, size // 60):
        file.write_bytes(content)
        flip(file, at)
        try:
            assert read() == want
        except ValueError as error:
            told += str(error).startswith(f"{file}: damaged (")
    assert told > 20


def test_a_file_that_users_add_is_no_damage(data_dir):
    (data_dir / PLACE / "notes.txt").write_text("mine")
    assert len(open_splits(data_dir)["train"])
