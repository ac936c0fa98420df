"""Takes CTs from file to outputs in the three steps of `picture_work`, one at a time."""

import concurrent.futures
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlung.data import record
from jaxlung.image import png_file
from jaxlung.predict import (
    ct,
    ct_ensemble,
    dicom_seg,
    ensemble,
    findings,
    formats,
    inputs,
    outputs,
    overlay,
    rtstruct,
    settings,
)
from jaxlung.volume import resample

MASK = SUFFIX = ".nii.gz"
READ_AHEAD = 1
LEVELS = (0, 1, 2)  # values of background, lung and infection in a mask of both


def batch_size(team: ensemble.Team) -> int:
    """Returns the number of volumes predicted at a time."""
    del team
    return 1


def read(item: inputs.Item, team: ensemble.Team, options: settings.Options) -> record.VolumeRecord:
    """Reads a volume.

    Raises:
        ValueError: the file is no CT, damaged or too large, as stored or at a network's spacing.
    """
    if item.kind == "unknown":
        raise formats.refuse(item.path)
    if item.kind != "volume":
        raise ct.refuse(item.path)
    volume = ct.read(item.path, options.max_voxels)
    for member in team.members:
        # Networks of volumes have `PatchSettings`.
        wanted_mm = member.system.settings.spacing_mm  # type: ignore[union-attr]
        _require_resampled(item, volume, wanted_mm, options.max_voxels)
    return volume


def _require_resampled(
    item: inputs.Item,
    volume: record.VolumeRecord,
    wanted_mm: tuple[float, float, float],
    max_voxels: int,
) -> None:
    """Raises ValueError if a volume is too large at a network's spacing."""
    axes = zip(volume.image.shape, volume.spacing_mm, wanted_mm, strict=True)
    num_voxels = math.prod(max(1.0, n * mm / want) if want else n for n, mm, want in axes)
    if num_voxels > max_voxels:
        raise ValueError(
            f"{item.path}: want at most {max_voxels:,} voxels (max_voxels) at the network's "
            f"spacing of {resample.in_mm(wanted_mm)} mm, got {num_voxels:.3g}: the CT has "
            f"{volume.image.shape} voxels {resample.in_mm(volume.spacing_mm)} mm apart."
        )


def predict(
    team: ensemble.Team,
    ready: Sequence[record.VolumeRecord],
    options: settings.Options,
    pool: concurrent.futures.Executor,
) -> list[dict[str, ensemble.Found]]:
    """Returns all networks' results by role; the lungs come first, as others may need them.

    Raises:
        MemoryError: the device's memory is too small for the volume.
    """
    del pool
    try:
        return [_find(team, item, options.probs) for item in ready]
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        shapes = ", ".join(str(item.image.shape) for item in ready)
        raise MemoryError(
            f"the device's memory is too small for a CT of {shapes} voxels."
        ) from error


def _find(
    team: ensemble.Team, item: record.VolumeRecord, keep_probs: bool
) -> dict[str, ensemble.Found]:
    found, lungs = {}, None
    for role, each in team.ensembles.items():
        found[role] = ct_ensemble.find(each, item, lungs, keep_probs=keep_probs)
        if role == team.lungs_from:
            lungs = found[role].preds > 0
            item = dataclasses.replace(item, mask=lungs * np.uint8(record.LUNG))
    return found


def save(
    item: inputs.Item,
    ready: record.VolumeRecord,
    raw: dict[str, ensemble.Found],
    team: ensemble.Team,
    options: settings.Options,
) -> dict[str, Any]:
    """Writes the outputs, the mask last, and returns the row of `columns.COLUMNS`."""
    result = findings.combine(team, raw)
    numbers = result.numbers(ready.spacing_mm, affine=ready.affine)
    # Written first, because headers may lack what it needs: an error then leaves no other files.
    if options.dicom_seg and item.path.is_dir():
        path = outputs.place(options.output, item.name, settings.DICOM_SEG)
        dicom_seg.write(path, result.layers, ready, item.path)
    if options.rtstruct and item.path.is_dir():
        path = outputs.place(options.output, item.name, settings.RTSTRUCT)
        rtstruct.write(path, result.layers, ready, item.path)
    if options.probs:
        for ending, probs in settings.probs_by_ending(raw).items():
            path = outputs.place(options.output, item.name, f"{ending}{SUFFIX}")
            ct.write(path, probs, ready)
    if options.overlay:
        drawn = overlay.draw_volume(ready.image, result.layers, ready.spacing_mm)
        png_file.write(outputs.place(options.output, item.name, settings.OVERLAY), drawn)
    levels = result.levels(LEVELS, 1)
    assert levels is not None  # Every task of volumes gives a mask.
    ct.write(outputs.place(options.output, item.name, MASK), levels, ready)
    return numbers | {"kind": "CT"}
