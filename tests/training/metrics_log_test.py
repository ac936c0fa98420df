"""The table of epochs: what a checkpoint knows is put back, what only the file knows is checked."""

import csv
import io

import pytest
from etils import epath

from jaxlung.training import metrics_log

COLUMNS = metrics_log.columns("dice")
ROWS = [
    {name: epoch + 0.1 for name in COLUMNS} | {"step": 10 * epoch, "epoch": epoch}
    for epoch in (1, 2, 3)
]


def restore(path, *, kept=ROWS, num_epochs=3, step=30):
    return metrics_log.restore(epath.Path(path), step, "dice", kept, num_epochs)


def read(path):
    return list(csv.DictReader(io.StringIO((path / "metrics.csv").read_text())))


def write(path, rows):
    (path / "metrics.csv").write_text(metrics_log.to_csv(rows, COLUMNS))


WHOLE = metrics_log.to_csv(ROWS, COLUMNS)


@pytest.mark.parametrize(
    "content", ["", None, WHOLE[:100], WHOLE[: len(WHOLE) // 2], "a,b\n1,2\n", "\x00", "[]"]
)
def test_rows_that_are_missing_are_restored_and_told(tmp_path, caplog, content):
    if content is not None:
        (tmp_path / "metrics.csv").write_text(content)
    assert restore(tmp_path) == ROWS
    assert (tmp_path / "metrics.csv").read_text() == WHOLE
    assert "metrics.csv: its 3 epochs are restored from the checkpoint" in caplog.text


def test_later_rows_are_dropped_without_a_word(tmp_path, caplog):
    write(tmp_path, ROWS)
    assert restore(tmp_path, kept=ROWS[:2], num_epochs=2, step=20) == ROWS[:2]
    assert [row["step"] for row in read(tmp_path)] == ["10", "20"]
    assert not caplog.text


def test_a_good_table_is_not_written_again(tmp_path):
    write(tmp_path, ROWS)
    before = (tmp_path / "metrics.csv").stat().st_mtime_ns
    restore(tmp_path)
    assert (tmp_path / "metrics.csv").stat().st_mtime_ns == before


def test_with_an_earlier_versions_checkpoint_the_file_counts(tmp_path, caplog):
    write(tmp_path, ROWS)
    (tmp_path / "metrics.csv").write_text(WHOLE + "40,4,0")  # A run was killed.
    rows = restore(tmp_path, kept=None)
    assert metrics_log.to_csv(rows, COLUMNS) == WHOLE
    assert not caplog.text


def test_what_an_earlier_versions_file_lacks_is_counted(tmp_path, caplog):
    write(tmp_path, ROWS[2:])
    restore(tmp_path, kept=None)
    assert "metrics.csv: 2 of 3 epochs are missing" in caplog.text


@pytest.mark.parametrize("content", ["a,b\n1,2\n", WHOLE.replace("20,2,", "x,2,")])
def test_an_earlier_versions_file_of_another_shape_is_named(tmp_path, content):
    (tmp_path / "metrics.csv").write_text(content)
    with pytest.raises(ValueError, match=r"metrics\.csv: want a table of step, epoch"):
        restore(tmp_path, kept=None)


def test_epochs_are_added_to_those_that_were_there(tmp_path):
    rows = restore(tmp_path, kept=ROWS[:2], num_epochs=2, step=20)
    with metrics_log.MetricsLog(epath.Path(tmp_path), 20, "dice", rows) as log:
        log.write(ROWS[2])
        assert log.rows == ROWS
    assert (tmp_path / "metrics.csv").read_text() == WHOLE
