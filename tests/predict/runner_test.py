"""Predictions on files: masks on their grids, tables, bad files, stopping and resuming."""

import csv
import dataclasses
import functools
import json
import math
import os
import re
import shutil
import signal
import sys

import nibabel
import numpy as np
import pytest
from PIL import Image

from jaxlung.data import record
from jaxlung.parallel import interrupt
from jaxlung.predict import (
    ensemble,
    findings,
    network,
    outputs,
    overlay,
    picture_work,
    runner,
    settings,
)
from jaxlung.tasks import task as task_lib
from jaxlung.volume import device_map, rows
from tests import array_source
from tests.predict import dicom_picture_test, networks

NAMES = ["a", "b", "c", "d", "e", "f"]


@pytest.fixture(scope="module")
def lung_network(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    return network.load(networks.save_run(path, networks.make_config("lung"), bias=0.5))


@pytest.fixture
def folder(tmp_path):
    """Six X-rays; "e" lies on its side (EXIF 6), "f" is in a folder."""
    path = tmp_path / "in"
    (path / "sub").mkdir(parents=True)
    for i, name in enumerate(NAMES[:5]):
        image = Image.fromarray(array_source.ArraySource(1, size=40, seed=i)[0].image[: 30 + i])
        exif = image.getexif()
        exif[0x0112] = 6 if name == "e" else 1
        image.save(path / f"{name}.png", exif=exif)
    Image.fromarray(array_source.ArraySource(1, size=20)[0].image).save(path / "sub/f.png")
    return path


@pytest.fixture
def run(lung_network, monkeypatch, folder, tmp_path):
    loaded = {"lung": lung_network, "infection": higher(lung_network, "infection", 0.55)}
    monkeypatch.setattr(network, "load_all", lambda paths, mirror: [loaded[path] for path in paths])

    def run(*, roles=("lung",), source=folder, resume=False, **options):
        wanted = settings.Options(tmp_path / "out", **options)
        return runner.run(roles, str(source), wanted, resume=resume)

    return run


def higher(net, role, threshold):
    """The same network with another threshold and role."""
    above = functools.partial(task_lib.above, threshold=threshold)
    changes = dict(role=role, threshold=threshold, postprocess=above)
    task = dataclasses.replace(net.system.task, **changes)
    step = dataclasses.replace(net.system.step, task=task)
    system = dataclasses.replace(net.system, step=step)
    return dataclasses.replace(net, system=system, digest=f"{role} {threshold}")


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def read_png(path):
    with Image.open(path) as image:
        return np.asarray(image)


def without_seconds(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_masks_lie_on_their_files_grids_and_are_counted(run, folder, tmp_path, lung_network):
    assert run(probs=True, overlay=True) == 0
    rows = read(tmp_path / "out/predictions.csv")
    assert [row["name"] for row in rows] == [*NAMES[:5], "sub/f"]
    assert read(tmp_path / "out/failures.csv") == []
    for row in rows:
        stored = read_png(folder / f"{row['name']}.png")
        turns = -1 if row["name"] == "e" else 0  # EXIF 6: a quarter clockwise to stand upright
        upright = np.ascontiguousarray(np.rot90(stored, turns))
        want = np.rot90(lung_network.probs(upright), -turns)
        mask = read_png(tmp_path / f"out/{row['name']}_mask.png")
        np.testing.assert_array_equal(mask, (want > 0.5) * 255)
        assert float(row["lung_area_px"]) == np.count_nonzero(mask) > 0
        probs = read_png(tmp_path / f"out/{row['name']}_probs.png")
        np.testing.assert_allclose(probs / 65535, want, atol=1e-4)
        confidence = want[want > 0.5].mean()
        np.testing.assert_allclose(float(row["confidence"]), confidence, rtol=1e-4)
        shown = read_png(tmp_path / f"out/{row['name']}_overlay.png")
        assert shown.shape == (*upright.shape, 3)


def test_lungs_and_infection_share_a_mask_and_give_a_burden(run, tmp_path):
    assert run(roles=["infection", "lung"]) == 0
    for row in read(tmp_path / "out/predictions.csv"):
        mask = read_png(tmp_path / f"out/{row['name']}_mask.png")
        num_lung, num_infection = np.sum(mask == 125), np.sum(mask == 255)
        assert set(np.unique(mask)) <= {0, 125, 255}
        share = num_infection / (num_lung + num_infection)  # It is all within the lungs here.
        np.testing.assert_allclose(float(row["infected_share"]), share, rtol=1e-5)


def test_bad_files_are_listed_and_the_others_done(run, folder, tmp_path):
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:60])
    (folder / "empty.png").write_bytes(b"")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)), folder / "g.nii")
    assert run() == 3
    failures = {row["name"]: row for row in read(tmp_path / "out/failures.csv")}
    assert sorted(failures) == ["b", "empty", "g"]
    assert failures["b"]["path"] == str(folder / "b.png")
    assert "the network needs an X-ray, got a volume" in failures["g"]["reason"]
    assert len(read(tmp_path / "out/predictions.csv")) == 5
    assert not (tmp_path / "out/b_mask.png").exists()


def test_dicom_seg_without_highdicom_is_refused_before_anything_is_written(
    run, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ValueError, match=r"--dicom_seg: needs highdicom"):
        run(dicom_seg=True)
    assert not (tmp_path / "out").exists()


def test_a_dicom_x_ray_among_pngs_gets_a_seg_like_its_mask_and_sizes_in_mm(run, folder, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    needed = ("PatientID", "PatientName", "PatientSex", "PatientBirthDate", "StudyID")
    needed += ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName")
    tags = dict.fromkeys(needed, "") | dict(StudyInstanceUID="1.2", SeriesInstanceUID="1.2.5")
    tags |= dict(SeriesNumber=1, InstanceNumber=1, PixelSpacing=[0.5, 0.25])
    image = array_source.ArraySource(1, size=40)[0].image[:30]
    dataset = dicom_picture_test.make(image, PatientOrientation=["R", "H"], **tags)
    dataset.save_as(folder / "x.dcm", enforce_file_format=True)
    assert run(dicom_seg=True) == 0
    assert [path.name for path in (tmp_path / "out").rglob("*.dcm")] == ["x.seg.dcm"]
    mask = read_png(tmp_path / "out/x_mask.png")
    assert 0 < np.count_nonzero(mask) < mask.size
    seg = highdicom.seg.segread(tmp_path / "out/x.seg.dcm")
    (got,) = seg.get_pixels_by_source_instance(["1.2.3"])
    np.testing.assert_array_equal(got[..., 0], mask > 0)
    for row in read(tmp_path / "out/predictions.csv"):
        want = f"{0.125 * float(row['lung_area_px']):.6g}" if row["name"] == "x" else ""
        assert row["lung_area_mm2"] == want


def test_x_rays_have_no_rtstruct(run, tmp_path):
    with pytest.raises(ValueError, match=r"--rtstruct: lung is for X-rays, want networks for CTs"):
        run(rtstruct=True)
    assert not (tmp_path / "out").exists()


def test_a_diagnosis_has_no_dicom_seg(run, tmp_path, monkeypatch, lung_network):
    diagnosis = higher(lung_network, "diagnosis", 0.5)
    monkeypatch.setattr(network, "load_all", lambda paths, mirror: [diagnosis])
    with pytest.raises(ValueError, match=r"--dicom_seg: lung finds no mask, want one that does"):
        run(dicom_seg=True)
    assert not (tmp_path / "out").exists()


def test_what_can_not_be_measured_leaves_no_files(run, tmp_path, monkeypatch):
    def numbers(*args, **kwargs):
        raise ValueError("want a spacing.\n" + 9999 * "\0x ")

    monkeypatch.setattr(findings.Findings, "numbers", numbers)
    assert run(probs=True, overlay=True) == 3
    failed = read(tmp_path / "out/failures.csv")
    assert [row["name"] for row in failed] == [*NAMES[:5], "sub/f"]
    assert all(
        re.fullmatch(r"want a spacing. x x [x ]{480,500}\.\.\.", x["reason"]) for x in failed
    )
    assert not list((tmp_path / "out").rglob("*.png"))


def test_whatever_a_reader_raises_is_a_reason(run, tmp_path, monkeypatch):
    def read_or_divide(item, *rest, whole=picture_work.read):
        return whole(item, *rest) if item.name != "b" else 1 / 0

    monkeypatch.setattr(picture_work, "read", read_or_divide)
    assert run() == 3
    (failed,) = read(tmp_path / "out/failures.csv")
    assert failed["reason"] == "ZeroDivisionError: division by zero"


def test_a_killed_command_goes_on_where_it_was(run, tmp_path, monkeypatch):
    assert run() == 0
    table = tmp_path / "out/predictions.csv"
    whole = read(table)
    with pytest.raises(ValueError, match=r"holds predictions; add --resume to continue them"):
        run()
    with pytest.raises(ValueError, match=r"another command \(overlay differ\)"):
        run(resume=True, overlay=True)
    with pytest.raises(ValueError, match=r"another command \(input differ\)"):
        run(resume=True, source=tmp_path / "in/sub")
    lines = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(b"".join(lines[:4]) + lines[4][:20])  # a, b, c, and half of d
    (tmp_path / "out/b_mask.png").unlink()
    seen, picture_read = [], picture_work.read
    monkeypatch.setattr(
        picture_work, "read", lambda item, *x: seen.append(item.name) or picture_read(item, *x)
    )
    assert run(resume=True) == 0
    assert sorted(seen) == ["b", "d", "e", "sub/f"]
    by_name = functools.partial(sorted, key=lambda row: row["name"])
    assert by_name(without_seconds(read(table))) == by_name(without_seconds(whole))
    assert run(resume=True) == 0
    assert len(seen) == 4


def test_a_folder_of_an_older_version_goes_on_with_all_that_it_holds(run, tmp_path):
    assert run() == 0
    table, command = tmp_path / "out/predictions.csv", tmp_path / "out/predictions.json"
    new = [row for row in read(table) if row["name"] != "c"]
    dropped = ("warning", "thoracic_width_px")  # They came later.
    old = [
        {"lung_volume_ml": "", **row, "old": row["name"][0] * (row["name"] == "b")} for row in new
    ]
    old = [{k: v for k, v in row.items() if k not in dropped} for row in old]
    lines = [",".join(old[0]), *(",".join(row.values()) for row in old)]
    table.write_text("".join(f"{line}\n" for line in lines))
    stored = json.loads(command.read_text())
    del stored["json"]
    command.write_text(json.dumps(stored))
    assert run(resume=True) == 0
    rows = read(table)
    assert "lung_volume_ml" not in rows[0]  # It was empty.
    assert [row["old"] for row in rows] == ["", "b", "", "", "", ""]
    by_name = {row["name"]: row for row in rows}
    for row in new:
        assert {k: v for k, v in by_name[row["name"]].items() if k not in ("old", *dropped)} == {
            k: v for k, v in row.items() if k not in dropped
        }
        assert by_name[row["name"]]["thoracic_width_px"] == ""
    assert "warning" in by_name["c"]
    with pytest.raises(ValueError, match=r"another command \(json differ\)"):
        run(resume=True, json=True)


def test_the_numbers_of_a_file_as_json_are_those_of_its_row(run, tmp_path):
    assert run(json=True) == 0
    for row in read(tmp_path / "out/predictions.csv"):
        told = json.loads((tmp_path / f"out/{row['name']}.json").read_text())
        assert list(told) == list(row)
        for column, value in told.items():
            assert value != ""
            if column in ("name", "path", "kind", "warning"):
                assert (value or "") == row[column]
            else:
                assert value is None if row[column] == "" else value == float(row[column])
    (tmp_path / "out/b.json").unlink()
    assert run(json=True, resume=True) == 0
    assert json.loads((tmp_path / "out/b.json").read_text())["name"] == "b"


@pytest.mark.parametrize("content", ["[]", "", '"x"', "[" * 100_000, "null", "\\xff"])
def test_going_on_with_something_else_than_a_command_is_told(run, tmp_path, content):
    assert run() == 0
    table = (tmp_path / "out/predictions.csv").read_bytes()
    (tmp_path / "out/predictions.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"^--resume: .*predictions.json: want the JSON object"):
        run(resume=True)
    assert (tmp_path / "out/predictions.csv").read_bytes() == table


def test_names_of_any_bytes_are_known_again(run, folder, tmp_path):
    odd = [
        b"=1+1.png",
        b"a\rb.png",
        b"a\nb.png",
        b"m\xfc.png",
        b"'=1.png",
        b"@x;=1.png",
        b"a\\n.png",
    ]
    for name in odd:
        shutil.copy(folder / "a.png", os.path.join(os.fsencode(folder), name))
    (folder / "empty\r.png").write_bytes(b"")
    assert run() == 3
    content = (tmp_path / "out/predictions.csv").read_bytes()
    rows = outputs.read_rows(tmp_path / "out/predictions.csv")
    assert {os.path.basename(os.fsencode(row["path"])) for row in rows} >= set(odd)
    assert len(content.splitlines()) == len(NAMES) + len(odd) + 1
    assert not [line for line in content.splitlines() if line[:1] in b"=+-@"]
    assert run(resume=True) == 3  # The empty file alone.
    assert (tmp_path / "out/predictions.csv").read_bytes() == content


def test_a_signal_stops_after_what_was_begun(run, tmp_path, monkeypatch):
    seen, picture_read = [], picture_work.read

    def read_and_stop(item, *rest):
        if item.name == "c" and not seen:
            seen.append("c")
            os.kill(os.getpid(), signal.SIGTERM)
        return picture_read(item, *rest)

    monkeypatch.setattr(picture_work, "read", read_and_stop)
    monkeypatch.setattr(picture_work, "batch_size", lambda team: 1)
    assert run() == interrupt.EXIT_CODE
    assert len(read(tmp_path / "out/predictions.csv")) < len(NAMES)
    assert run(resume=True) == 0
    assert len(read(tmp_path / "out/predictions.csv")) == len(NAMES)


def test_a_second_command_waits_for_the_first(tmp_path):
    table = outputs.Table(tmp_path / "t.csv", ["name"])
    with pytest.raises(ValueError, match=r"another command predicts into it"):
        outputs.Table(tmp_path / "t.csv", ["name"])
    table.append({"name": 'a"\n,b'})
    table.append({"name": math.nan})
    table.close()
    assert outputs.read_rows(tmp_path / "t.csv")[0] == {"name": 'a"\n,b'}


def test_reading_stays_a_few_items_ahead():
    begun, pool = [], runner.concurrent.futures.ThreadPoolExecutor(2)
    with pool:
        for taken, value in enumerate(runner._map_ahead(pool, begun.append, range(50), 5)):
            assert value is None
            assert len(begun) <= taken + 1 + 5
    assert sorted(begun) == list(range(50))


@pytest.mark.parametrize("name", ["", "../a", "/a", "a/../../b"])
def test_no_output_leaves_its_folder(name, tmp_path):
    with pytest.raises(ValueError, match=r"want a name that stays inside"):
        outputs.place(tmp_path, name, "_mask.png")


def test_an_overlay_has_the_outline_in_full_and_the_inside_in_tint():
    image, mask = np.full((40, 50), 100, np.uint8), np.zeros((40, 50), bool)
    mask[10:30, 20:40] = True
    shown = overlay.draw(image, {"infection": mask})
    assert shown[5, 5].tolist() == [100, 100, 100]
    assert shown[10, 25].tolist() == [213, 94, 0]
    assert shown[20, 30].tolist() == [128, 98, 75]  # 0.75 * 100 + 0.25 * colour
    large = overlay.draw(np.zeros((10, 5000), np.uint8), {"lung": np.ones((10, 5000), bool)})
    assert large.shape == (4, 2048, 3)


SPACING_MM = (5.0, 0.0, 0.0)  # 0 keeps an axis


class Band:
    """A network of CTs that finds a band of HU, where it is told to look."""

    is_volumetric, mirror = True, False

    def __init__(self, role, band, needs_lungs):
        self.role, self.digest, self.path, self.needs_lungs = role, role, role, needs_lungs
        self._band = band
        task = task_lib.Task(**dict.fromkeys(f.name for f in dataclasses.fields(task_lib.Task)))
        self.system = type("System", (), {"task": task})
        self.system.settings = type("Settings", (), {"spacing_mm": SPACING_MM})

    def find_in_volume(self, item, *, whole=False):
        del whole
        found = (item.image > self._band[0]) & (item.image < self._band[1])
        if self.needs_lungs:
            found &= item.mask & record.LUNG != 0
        box = tuple(slice(0, length) for length in found.shape)
        sent = rows.send(found.astype(np.float32), None)
        return device_map.make(sent, found.shape, box, found.shape)

    def mask_of(self, found):
        return found.above(0.5)


def test_infection_of_cts_is_sought_in_the_lungs_that_were_found(tmp_path, monkeypatch):
    hu = np.full((8, 6, 5), 40, np.int16)
    hu[1:4, 1:5, 1:4] = -800  # lung
    hu[2, 2, 2] = hu[7, 0, 0] = -600  # infection, and something outside
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    (tmp_path / "in").mkdir()
    nibabel.save(nibabel.Nifti1Image(hu, affine), tmp_path / "in/ct.nii.gz")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "in/no_ct.png")
    loaded = {
        "lung": Band("lung", (-900, -650), False),
        "infection": Band("infection", (-900, -500), True),
    }
    monkeypatch.setattr(network, "load_all", lambda paths, mirror: [loaded[path] for path in paths])
    options = settings.Options(tmp_path / "out", probs=True, overlay=True)
    code = runner.run(["infection", "lung"], str(tmp_path / "in"), options)
    assert code == 3
    (failed,) = read(tmp_path / "out/failures.csv")
    assert "needs a CT" in failed["reason"]
    written = nibabel.load(tmp_path / "out/ct.nii.gz")
    np.testing.assert_allclose(written.affine, affine)
    want = np.where(hu == -800, 2, 0)  # Of -600 the lung network knows nothing.
    np.testing.assert_array_equal(np.asarray(written.dataobj), want)
    (row,) = read(tmp_path / "out/predictions.csv")
    np.testing.assert_allclose(float(row["infection_volume_ml"]), (want == 2).sum() * 0.02)
    assert (tmp_path / "out/ct_infection_probs.nii.gz").exists()
    assert read_png(tmp_path / "out/ct_overlay.png").ndim == 3


def test_a_volume_that_would_grow_too_large_is_refused(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name, slice_mm in (("a", 5.0), ("b", 50.0)):
        hu = np.resize(np.int16([-900, 0]), (4, 4, 8))
        image = nibabel.Nifti1Image(hu, np.diag([1, 1, slice_mm, 1]))
        nibabel.save(image, tmp_path / f"in/{name}.nii")
    monkeypatch.setattr(network, "load_all", lambda paths, mirror: [Band("lung", (0, 1), False)])
    options = settings.Options(tmp_path / "out", overlay=True, max_voxels=8 * 4 * 4)
    assert runner.run(["lung"], str(tmp_path / "in"), options) == 3
    (failed,) = read(tmp_path / "out/failures.csv")
    match = r"at most 128 voxels .* of 5 x 0 x 0 mm, got 1.28e\+03: the CT has \(8, 4, 4\) voxels"
    assert re.search(match, failed["reason"])
    assert [row["name"] for row in read(tmp_path / "out/predictions.csv")] == ["a"]


def test_a_volume_that_the_device_has_no_room_for_stops_no_other(tmp_path, monkeypatch):
    class Small(Band):
        def find_in_volume(self, item, *, whole=False):
            if item.image.size > 64:
                raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
            return super().find_in_volume(item)

    (tmp_path / "in").mkdir()
    for name, slices in (("a", 5), ("b", 4)):
        hu = np.resize(np.int16([-900, 0]), (4, 4, slices))
        image = nibabel.Nifti1Image(hu, np.diag([1, 1, 5, 1]))
        nibabel.save(image, tmp_path / f"in/{name}.nii")
    monkeypatch.setattr(network, "load_all", lambda paths, mirror: [Small("lung", (0, 1), False)])
    assert runner.run(["lung"], str(tmp_path / "in"), settings.Options(tmp_path / "out")) == 3
    (failed,) = read(tmp_path / "out/failures.csv")
    assert (
        failed["reason"]
        == "MemoryError: the device's memory is too small for a CT of (5, 4, 4) voxels."
    )
    assert [row["name"] for row in read(tmp_path / "out/predictions.csv")] == ["b"]


def test_an_overlay_of_thick_slices_stays_small():
    image = np.zeros((60, 20, 20), np.int16)
    shown = overlay.draw_volume(image, {"lung": image > 0}, (1e9, 1.0, 1.0))
    assert max(shown.shape) <= 2048 + 2 * (1 + overlay.GAP_PIXELS)


def test_a_team_of_fakes_is_what_the_runner_gets():
    team = ensemble.gather([Band("infection", (0, 1), True), Band("lung", (0, 1), False)])
    assert list(team.ensembles) == ["lung", "infection"]
    assert team.map_roles == ["lung", "infection"]
