"""Predictions never overwrite inputs, a run's files or other files."""

import pathlib

import pytest
from etils import epath

from jaxlung.predict import inputs, output_folder, outputs

ENDINGS = ["_mask.png", "_overlay.png"]


@pytest.fixture
def folder(tmp_path):
    """Two pictures, one in a folder below, and a run beside them."""
    for path in ("in/a.png", "in/sub/b.png", "run/config.json", "run/checkpoints/1", "run/lock"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"\x89PNG\r\n\x1a\n...")
    return tmp_path


def require_safe(output, pattern, runs=()):
    items = inputs.find(str(pattern), leave_out=output)
    output_folder.require_safe(pathlib.Path(output), items, ENDINGS, runs)


def test_a_folder_of_its_own_is_good_inside_the_input_too(folder):
    (folder / "out").mkdir()
    (folder / "out/notes.txt").write_text("mine")
    for output in ("out", "out/new", "in/out", "in/sub/out"):
        require_safe(folder / output, folder / "in")


@pytest.mark.parametrize("row", ["x" * 300 + ".png", "y/" * 3000 + "b.png", "n\0/b.png", "n/b.png"])
def test_a_row_that_is_no_path_stops_nothing(folder, row):
    (folder / "list.csv").write_text(f"path\nin/a.png\n{row}\n")
    require_safe(folder / "out", folder / "list.csv")


@pytest.mark.parametrize("pattern", ["in/a.png", "list.csv", "in/*.png"])
def test_outputs_do_not_lie_beside_inputs(folder, pattern):
    (folder / "list.csv").write_text("path\nin/a.png\n")
    (folder / "link").symlink_to(folder / "in")
    for output in ("in", "link", "in/sub/.."):
        with pytest.raises(ValueError, match=r"holds the input .*a.png;|is the input;"):
            require_safe(folder / output, folder / pattern)


def test_nor_do_those_of_folders_below(folder):
    (folder / "out").mkdir()
    (folder / "out/sub").symlink_to(folder / "in/sub")
    with pytest.raises(ValueError, match=r"out/sub holds the input .*/in/sub/b.png; choose"):
        require_safe(folder / "out", folder / "in")


@pytest.mark.parametrize("output", ["run", "run/predictions", "run/checkpoints/1/x", "link/y"])
def test_no_run_is_written_into(folder, output):
    (folder / "link").symlink_to(folder / "run")
    with pytest.raises(ValueError, match=r"OUTPUT: .* is in the run .*/run, whose files"):
        require_safe(folder / output, folder / "in")
    (folder / "run/lock").unlink()  # So it is known as the network's own folder alone.
    with pytest.raises(ValueError, match=r"OUTPUT: .* is in the run .*/run, whose files"):
        require_safe(folder / output, folder / "in", [epath.Path(folder / "run")])


def test_no_run_below_the_output_is_written_into(folder):
    (folder / "in/run").mkdir()
    (folder / "in/run/c.png").write_bytes((folder / "in/a.png").read_bytes())
    with pytest.raises(ValueError, match=r"is in the run .*/run, whose files"):
        require_safe(folder, folder / "in")


@pytest.mark.parametrize("name", ["a_mask.png", "sub/b_overlay.png", "failures.csv"])
def test_files_that_no_prediction_made_stay(folder, name):
    path = folder / "out" / name
    path.parent.mkdir(parents=True)
    path.symlink_to("nowhere")
    with pytest.raises(ValueError, match=rf"{name} exists, and no prediction wrote it"):
        require_safe(folder / "out", folder / "in")
    (folder / "out" / outputs.COMMAND).write_text("{}")  # Of a command that may be gone on with.
    require_safe(folder / "out", folder / "in")
