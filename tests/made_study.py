"""Finished runs of a made-up study, and its figure's images, for tests of its page."""

import dataclasses

import ml_collections as mlc
import numpy as np
from etils import epath

from jaxlung.config import run_files
from jaxlung.study import contents, outputs, page, results, rows, study

EVIL = "<script>alert(1)</script> & [more](x)"
COLUMNS = ("dice", "hd95", "iou")
SCORES = {  # run -> Dice, HD95
    "lungs": (0.9, 1.0),
    "se": (0.6, 10.5),
    "se_seed1": (0.7, None),
    "plain": (0.25, 3.25),
}


def make_result(path, name, task, **fields):
    """A run on phantoms; fields of a summary that nobody asks for are empty."""
    dice, hd95 = SCORES[name]
    content = {
        **{field.name: {} for field in dataclasses.fields(run_files.Summary)},
        "split": "test",
        "num_images": 4,
        "num_patients": 3,
        "step": 1500,
        "task": task,
        "levels": ["background", "infection"],
        "scores": {"dice": dice, "hd95": hd95},
        "intervals": {"dice": [0.125, 0.875]},
        "undefined": {"hd95": 2} if hd95 is None else {},
    }
    config = {"seed": int(name == "se_seed1"), "data": {"phantom_images": 6, "folds": 0}}
    return results.Result(
        run=study.Run(name, f"net {name}", "covidqu:quick", **fields),
        config=mlc.ConfigDict(config),
        path=epath.Path(path / "runs" / name),
        summary=run_files.Summary(**content),
        epochs=2,
        loss=0.5,
        val_loss=0.75,
    )


def make(path, task="mask", evil=""):
    """A study and its runs: two seeds in a group, one alone, and one outside the table."""
    group = {"group": f"SE {evil}"}
    found = [
        make_result(path, "lungs", task, in_table=False),
        make_result(path, "se", task, **group),
        make_result(path, "se_seed1", task, overrides={"seed": 1, "x": "{runs}/lungs"}, **group),
        make_result(path, "plain", task, overrides={"y": f"z{evil}"}),
    ]
    made = study.Study(
        title=f"Attention or not {evil}",
        runs=tuple(result.run for result in found),
        columns=COLUMNS,
        paper=(study.PaperRow("table 1", {"dice": 0.7627}),),
        notes=(f"The default is `covidqu:quick`. {evil}",),
        images=(181, 2),
    )
    return made, found


def make_images(evil=""):
    """Two images as three runs see them."""
    np_rng = np.random.default_rng(0)
    return outputs.Outputs(
        wanted=(181, 2),
        numbers=(1, 3),
        num_images=4,
        image_ids=("Test/covid_1", f"covid_2 {evil}"),
        images=np_rng.integers(0, 256, (2, 16, 16), np.uint8),
        targets=np_rng.choice(np.uint8([0, 255]), (2, 16, 16)),
        labels=("net se", "net se_seed1", "net plain"),
        probs=np_rng.random((3, 2, 16, 16), np.float32),
    )


def write_page(path, task="mask", evil="", images=None):
    """The page in `path`, its text."""
    made, found = make(path, task, evil)
    shown = [result for result in found if result.run.in_table]
    table = rows.make(made, shown)
    content = contents.make(made, found, table, images)
    return page.build(content, table, images, epath.Path(path)).read_text()
