"""Dozens of damaged files: each ends in one table, with its numbers or with a reason."""

import csv
import math
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from jaxlung.predict import inputs, network, runner, settings
from tests.predict import damaged, networks

ROOT = pathlib.Path(__file__).parents[2]
MOST_BYTES = 3 << 30  # of the whole process; JAX alone takes a sixth of it
TABLES = {"predictions.csv", "failures.csv", "predictions.json"}
SHARES = ("confidence", "entropy_bits")


def require_honest(made, output, mask):
    """Each path is in one row of one table; what is predicted has its mask, and no other files."""
    predicted, failed = (read(output / f"{name}.csv") for name in ("predictions", "failures"))
    paths = [row["path"] for row in predicted + failed]
    assert len(set(paths)) == len(paths)
    assert set(map(str, made)) <= set(paths)
    # A slice that is none any more stands for itself.
    beside = [pathlib.Path(path) for path in set(paths) - set(map(str, made))]
    assert all(path.parent in made for path in beside)
    for row in predicted:
        numbers = [float(row[name]) for name in numeric(row) if row[name]]
        assert numbers
        assert all(map(math.isfinite, numbers))
        assert all(0 <= float(row[name] or 0) <= 1 for name in SHARES)
    for row in failed:
        assert re.fullmatch(r"[^\n]{20,600}", row["reason"])
        assert "Traceback" not in row["reason"]
    written = {str(p.relative_to(output)) for p in output.rglob("*") if p.is_file()}
    assert written == TABLES | {f"{row['name']}{mask}" for row in predicted}
    return predicted, failed


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def numeric(row):
    return [name for name in row if name not in ("name", "path", "kind", "diagnosis", "warning")]


def command(path, source, output, log):
    """Returns the exit code and the peak memory in bytes of the command itself."""
    args = ["predict", str(source), str(output), f"--model={path}"]
    with open(log, "w") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "jaxlung.main", *args], stderr=file, stdout=file, cwd=ROOT
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, usage.ru_maxrss * 1024


@pytest.fixture(scope="module")
def lung_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("lung")
    return networks.save_run(path, networks.make_config("lung"), bias=0.5)


@pytest.fixture(scope="module")
def ct_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("ct_lung")
    return networks.save_run(path, networks.make_config("ct_lung"), bias=0.5)


@pytest.mark.parametrize("seed", [0, 1])
def test_forty_damaged_pictures_stop_nothing(lung_run, tmp_path, seed):
    (tmp_path / "in").mkdir()
    made = damaged.make(tmp_path / "in", 40, seed)
    options = settings.Options(tmp_path / "out")
    assert runner.run([lung_run], str(tmp_path / "in"), options) == runner.SOME_FAILED
    predicted, failed = require_honest(made, tmp_path / "out", "_mask.png")
    assert len(predicted) + len(failed) == 40
    assert len(predicted) >= 3
    assert len(failed) >= 20
    for row in predicted:
        with Image.open(tmp_path / f"out/{row['name']}_mask.png") as mask:
            assert np.count_nonzero(mask) == float(row["lung_area_px"])


def test_damaged_volumes_and_series_likewise(ct_run, tmp_path):
    (tmp_path / "in").mkdir()
    made = damaged.make(tmp_path / "in", 60, 0, volumes=True)
    options = settings.Options(tmp_path / "out")
    assert runner.run([ct_run], str(tmp_path / "in"), options) == runner.SOME_FAILED
    predicted, failed = require_honest(made, tmp_path / "out", ".nii.gz")
    assert len(predicted) >= 3
    assert len(failed) >= 25


def test_telling_files_apart_survives_any_damage_of_a_header(tmp_path):
    content, np_rng = damaged.dicom(Image.new("L", (4, 4))), np.random.default_rng(0)
    for i in range(150):
        place = int(np_rng.integers(132, len(content)))
        (tmp_path / f"{i}.dcm").write_bytes(content[:place] + np_rng.bytes(4) + content[place:])
    assert len(inputs.find(str(tmp_path))) == 150


@pytest.mark.slow
@pytest.mark.parametrize("volumes", [False, True])
def test_the_command_with_200_damaged_files(lung_run, ct_run, tmp_path, volumes):
    (tmp_path / "in").mkdir()
    made = damaged.make(tmp_path / "in", 200, 7, volumes=volumes)
    run, mask = (ct_run, ".nii.gz") if volumes else (lung_run, "_mask.png")
    start, output, log = time.monotonic(), tmp_path / "out", tmp_path / "log"
    code, most_bytes = command(run, tmp_path / "in", output, log)
    assert code == runner.SOME_FAILED, log.read_text()
    assert most_bytes < MOST_BYTES
    assert time.monotonic() - start < 300
    lines = log.read_text().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines), lines
    require_honest(made, output, mask)
    assert network.load(run).is_volumetric == volumes
