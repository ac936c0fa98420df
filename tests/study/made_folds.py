"""Finished runs of a made-up cross-validation, with the tables that evaluation writes."""

import dataclasses

import ml_collections as mlc
from etils import epath

from jaxlung.config import run_files
from jaxlung.host import csv_text
from jaxlung.study import results, study

TASKS = {
    "diagnosis": dict(lungs="none", crop_pixels=(0, 0, 0), threshold=0.5),
    "mask": dict(target="lung", threshold=0.5, loss="bce", alpha=0.5),
    "volume_mask": dict(
        target="infection", region="lung", threshold=0.5, loss="bce_dice", alpha=0.5
    ),
}


def make_run(path, task, seed, fold, rows, *, scores=None, group="all folds"):
    """A run that tested `rows`, its table's cells by column, without files of probabilities."""
    start = "" if group == "all folds" else f"{group[:2]}_"
    name = f"{start}fold_{fold}_seed_{seed}"
    content = {
        **{field.name: {} for field in dataclasses.fields(run_files.Summary)},
        "split": "test",
        "num_images": len(rows),
        "num_patients": len({row["patient_id"] for row in rows}),
        "step": 7,
        "task": task,
        "levels": ["background", "lung"],
        "temperature": None,
        "weights_digest": f"weights {name}",
        "scores": scores or {},
    }
    config = {
        "seed": seed,
        "task_name": task,
        "task": TASKS[task],
        "data": {"phantom_images": 0, "fold": fold, "folds": 2},
    }
    result = results.Result(
        run=study.Run(name, name, "folder", group=group),
        config=mlc.ConfigDict(config),
        path=epath.Path(path / "runs" / name),
        summary=run_files.Summary(**content),
        epochs=2,
        loss=0.5,
        val_loss=0.75,
    )
    result.path.mkdir(parents=True)
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    (result.path / "scores_test.csv").write_text(csv_text.to_text(lines))
    return result
