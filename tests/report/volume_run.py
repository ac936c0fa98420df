"""Files of a run on two CTs, for tests."""

import csv
import json

import numpy as np

from tests.report import report_summary

PLANES = ("axial", "coronal", "sagittal")
SHAPE = (6, 20, 16)  # Slices, rows, columns.
ASPECTS = (1.5, 4.0, 4.0 / 1.5)  # Of voxels of 4 x 1.5 x 1 mm.
SCORES = {
    "dice": 0.75,
    "dice_pooled": 0.7,
    "hd95": 12.345,
    "asd": 1.5,
    "nsd": 0.625,
    "nsd_by_area": 0.6875,
    "volume_ml": 150.0,
    "true_volume_ml": 160.0,
    "volume_error_ml": -10.0,
    "share": 0.1234,
    "true_share": 0.15,
    "share_error": -0.0266,
    "mse": 0.01,
}
ROWS = [  # image_id, dice, sensitivity, iou, precision, hd95, mL, true mL, share, true share
    ["case_1", 0.8, 0.9, 0.7, 0.6, 10.0, 100.0, 120.0, 0.05, 0.06],
    ["case_2", 0.5, 0.4, 0.3, 0.2, "nan", 200.0, 250.0, 0.1, 0.125],
]
COLUMNS = ("dice", "sensitivity", "iou", "precision", "hd95")
COLUMNS += ("volume_ml", "true_volume_ml", "share", "true_share")


def write_summary(workdir, split="test", **fields):
    content = report_summary.make("volume_mask", SCORES, split=split, num_images=2, **fields)
    (workdir / f"summary_{split}.json").write_text(json.dumps(content | {"num_patients": 2}))


def write_scores(workdir, split="test"):
    with (workdir / f"scores_{split}.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "group", "shape", "spacing_mm", *COLUMNS])
        writer.writerows([row[0], "a", "6 x 20 x 16", "4 x 1.5 x 1", *row[1:]] for row in ROWS)


def make_planes(image_ids=("case_1", "case_2")):
    """Arrays of `planes_test.npz`; a box is annotated, its half is predicted."""
    depth, height, width = SHAPE
    sizes = ((height, width), (depth, width), (depth, height))
    arrays = {}
    for number, image_id in enumerate(image_ids):
        arrays |= {f"{number}_image_id": image_id, f"{number}_dice": 0.25}
        for plane, size, aspect in zip(PLANES, sizes, ASPECTS, strict=True):
            target, pred = np.zeros((2, *size), bool)
            target[2:4, 4:12] = pred[2:4, 4:8] = True
            values = (np.full(size, 7 + number, np.uint8), pred, target, 3 + number, aspect)
            names = ("image", "pred", "target", "index", "aspect")
            arrays |= {f"{number}_{plane}_{n}": v for n, v in zip(names, values, strict=True)}
    return arrays


def write_planes(workdir, **changes):
    """Changes by name; None leaves the array out."""
    arrays = make_planes() | changes
    kept = {name: value for name, value in arrays.items() if value is not None}
    np.savez(workdir / "planes_test.npz", **kept)
