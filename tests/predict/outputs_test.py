"""Two inputs never share an output: names that would collide are refused, others accepted."""

import itertools
import pathlib

import numpy as np
import pytest

from jaxlung.predict import ensemble, outputs, picture_work, settings, volume_work
from jaxlung.predict import inputs as inputs_lib

OUT = pathlib.Path("/out")
ROLES = [("lung",), ("infection",), ("lung", "infection"), ("levels", "lung", "diagnosis")]
PARTS = ["a", "A", "b", "a_mask", "a_probs", "a_lung_probs", "a_overlay", "a_disagreement"]
PARTS += ["a.nii.gz", "a_mask.png", "a.seg", "predictions", "predictions.csv", "a.seg.dcm"]
PARTS += ["a_probs.nii"]


def endings_of(roles, work, **options):
    team = ensemble.Team(dict.fromkeys(roles), "")
    return settings.endings(team, settings.Options(OUT, **options), work.MASK, work.SUFFIX)


def clashes(names, endings):
    """Returns True if outputs collide on a file system that ignores case."""
    paths = [pathlib.PurePosixPath(f"{name}{end}".lower()) for name in names for end in endings]
    paths += [pathlib.PurePosixPath(name) for name in outputs.TABLES]
    folders = {folder for path in paths for folder in path.parents}
    return len(set(paths)) < len(paths) or bool(folders & set(paths))


def refuses(names, endings):
    try:
        outputs.require_apart(OUT, names, endings)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("work", [picture_work, volume_work])
@pytest.mark.parametrize("roles", ROLES)
def test_random_names_are_refused_if_and_only_if_two_outputs_are_one_path(work, roles):
    np_rng, seen = np.random.default_rng(0), set()
    written = itertools.product([False, True], repeat=5)
    for probs, overlay, dicom_seg, json, rtstruct in written:
        options = dict(probs=probs, overlay=overlay, dicom_seg=dicom_seg, json=json)
        options |= dict(rtstruct=rtstruct)
        endings = endings_of(roles, work, **options)
        for _ in range(40):
            depths = np_rng.integers(1, 3, np_rng.integers(1, 7))
            drawn = ["/".join(np_rng.choice(PARTS, depth)) for depth in depths]
            names = list({name.lower(): name for name in drawn}.values())
            want = clashes(names, endings)
            assert refuses(names, endings) == want, (names, endings)
            seen.add(want)
    assert seen == {False, True}


def test_endings_are_what_is_written():
    everything = dict(probs=True, overlay=True, dicom_seg=True)
    want = {".nii.gz", "_overlay.png", ".seg.dcm", "_probs.nii.gz", "_disagreement.nii.gz"}
    assert set(endings_of(["lung"], volume_work, **everything)) == want
    pairs = itertools.product(["_lung", "_infection"], ["_probs.png", "_disagreement.png"])
    want = {"_mask.png", *map("".join, pairs)}
    assert set(endings_of(["lung", "infection"], picture_work, probs=True)) == want
    assert endings_of(["diagnosis"], picture_work, probs=True) == []


@pytest.mark.parametrize("roles", ROLES)
def test_x_rays_of_one_folder_never_clash_and_cts_only_beside_probabilities(roles):
    names = ["a", *(f"a{end}" for role in ROLES for end in all_endings(role))]
    stems = sorted({name.removesuffix(".png").removesuffix(".nii.gz") for name in names})
    everything = dict(probs=True, overlay=True)
    assert not refuses(stems, endings_of(roles, picture_work, **everything))
    assert not refuses(stems, endings_of(roles, volume_work, overlay=True, dicom_seg=True))
    assert refuses(stems, endings_of(roles, volume_work, **everything))


def all_endings(roles):
    works = (picture_work, volume_work)
    return [end for work in works for end in endings_of(roles, work, probs=True, overlay=True)]


def test_the_refusal_names_both_and_the_file(tmp_path):
    for name in ("a.png", "a_probs.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n...")
    names = [item.name for item in inputs_lib.find(str(tmp_path))]
    endings = endings_of(["lung"], volume_work, probs=True)
    match = r"INPUT: 'a_probs' and 'a' would both be written to /out/a_probs.nii.gz; use two"
    with pytest.raises(ValueError, match=match):
        outputs.require_apart(OUT, names, endings)
    with pytest.raises(ValueError, match=r"'failures.csv/x' .* /out/failures.csv; use two"):
        outputs.require_apart(OUT, ["failures.csv/x"], endings)
