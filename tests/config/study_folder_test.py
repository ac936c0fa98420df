"""Which runs of a study are one ensemble, and what is said of those that are not."""

import pytest
from etils import epath

from jaxlung.config import study_folder


def make(path, groups, finished):
    study_folder.write(epath.Path(path), groups)
    for name in groups:
        (path / "runs" / name).mkdir(parents=True)
        (path / "runs" / name / "config.json").write_text("{}")
    for name in finished:
        (path / "runs" / name / "finished.txt").write_text("1\n")
    return epath.Path(path)


def test_the_runs_of_one_group_are_an_ensemble_in_their_order(tmp_path):
    groups = {f"fold_{number}": "all folds" for number in range(12)}
    path = make(tmp_path, groups, groups)
    want = [path / "runs" / f"fold_{number}" for number in range(12)]
    assert study_folder.members(path) == want


def test_a_run_or_a_file_is_itself(tmp_path):
    path = make(tmp_path, {"fold_0": "all folds"}, ())
    run, file = path / "runs" / "fold_0", path / "mean.jaxlung"
    file.write_bytes(b"PK")
    assert study_folder.members(run) == [run]
    assert study_folder.members(file) == [file]
    assert study_folder.members(path / "absent") == [path / "absent"]


def test_a_folder_with_a_folder_of_runs_is_no_study(tmp_path):
    (tmp_path / "runs" / "covidqu").mkdir(parents=True)
    assert not study_folder.is_study(epath.Path(tmp_path))


def test_unfinished_runs_are_named_and_nothing_is_left_out(tmp_path):
    groups = {f"fold_{number}": "all folds" for number in range(8)}
    path = make(tmp_path, groups, ["fold_1"])
    with pytest.raises(ValueError, match=r"unfinished runs, 7 of 8 \(fold_0, fold_2,") as e:
        study_folder.members(path)
    assert "fold_5 and 2 more); run its command again" in str(e.value)
    (path / "runs" / "fold_1" / "finished.txt").unlink()
    (path / "runs" / "fold_7").rename(path / "elsewhere")
    with pytest.raises(ValueError, match=r"unfinished runs, 8 of 8"):
        study_folder.members(path)


@pytest.mark.parametrize(
    "groups", [{"bce": "", "iou": ""}, {"a": "x", "b": "y"}, {"a": "x", "b": ""}]
)
def test_runs_that_are_compared_are_no_ensemble(tmp_path, groups):
    path = make(tmp_path, groups, groups)
    first = next(iter(groups))
    with pytest.raises(
        ValueError, match=rf"no ensemble; want one of its runs, such as .*/{first}, "
    ):
        study_folder.members(path)


def test_a_study_of_an_earlier_version_says_what_to_do(tmp_path):
    path = make(tmp_path, {"b": "x", "a": "x"}, ["a", "b"])
    (path / study_folder.FILE).rename(path / "study.csv")
    assert study_folder.is_study(path)
    with pytest.raises(ValueError, match=r"run its command again.* or name .* such as .*/runs/a\."):
        study_folder.members(path)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"runs": []}',
        '{"runs": [{"name": "a"}]}',
        '{"runs": [{"name": "../a", "group": ""}]}',
        '{"runs": [3]}',
    ],
)
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / study_folder.FILE).write_text(text)
    with pytest.raises(ValueError, match=r"study\.json: want "):
        study_folder.members(epath.Path(tmp_path))
