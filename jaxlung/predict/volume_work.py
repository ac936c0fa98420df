"""CTs from file to outputs, in the three steps of `picture_work`, one at a time."""

import concurrent.futures
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlung.data import record
from jaxlung.predict import (
    ct,
    ensemble,
    findings,
    formats,
    inputs,
    outputs,
    overlay,
    settings,
)

MASK = ".nii.gz"
READ_AHEAD = 1
LEVELS = (0, 1, 2)  # background, lung, infection, where both were looked for


def batch_size(team: ensemble.Team) -> int:
    """Volumes at a time."""
    del team
    return 1


def read(item: inputs.Item, team: ensemble.Team, options: settings.Options) -> record.VolumeRecord:
    """Reads a volume.

    Raises:
        ValueError: it is none, or damaged, or too large.
    """
    del team
    if item.kind == "unknown":
        raise formats.refuse(item.path)
    if item.kind != "volume":
        raise ValueError(
            f"{item.path}: want a CT (NIfTI, or the folder of a DICOM series), as the network "
            "does, got a picture."
        )
    return ct.read(item.path, options.max_voxels)


def predict(
    team: ensemble.Team,
    ready: Sequence[record.VolumeRecord],
    pool: concurrent.futures.Executor,
) -> list[dict[str, ensemble.Found]]:
    """What all networks find, by role; lungs are found before what lies in them."""
    del pool
    return [_find(team, item) for item in ready]


def _find(team: ensemble.Team, item: record.VolumeRecord) -> dict[str, ensemble.Found]:
    found = {}
    for role, each in team.ensembles.items():
        found[role] = each.combine(member.predict_volume(item) for member in each.members)
        if role == team.lungs_from:
            mask = (found[role].preds > 0) * np.uint8(record.LUNG)
            item = dataclasses.replace(item, mask=mask)
    return found


def save(
    item: inputs.Item,
    ready: record.VolumeRecord,
    raw: dict[str, ensemble.Found],
    team: ensemble.Team,
    options: settings.Options,
) -> dict[str, Any]:
    """Writes what was found, the mask last, and returns the row of `outputs.COLUMNS`."""
    result = findings.combine(team, raw)
    if options.probs:
        for ending, probs in settings.probs_by_ending(raw).items():
            path = outputs.place(options.output, item.name, f"{ending}.nii.gz")
            ct.write(path, probs, ready)
    if options.overlay:
        drawn = overlay.draw_volume(ready.image, result.layers, ready.spacing_mm)
        outputs.write_png(outputs.place(options.output, item.name, "_overlay.png"), drawn)
    path = outputs.place(options.output, item.name, MASK)
    ct.write(path, result.levels(LEVELS, 1), ready)
    return result.numbers(ready.spacing_mm, affine=ready.affine) | {"kind": "CT"}
