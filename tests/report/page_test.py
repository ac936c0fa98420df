"""The page: whole, self-contained, escaped, and with its numbers in place."""

import csv
import html
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from absl.testing import parameterized
from etils import epath
from PIL import Image

from jaxlung.config import run_files
from jaxlung.report import page
from tests.report import page_parser, report_summary

EVIL = "<script>alert(1)</script>"
SCORES = {
    "three_level": {
        "mse": 0.00123,
        "f1_macro": 0.8123,
        "f1_micro": 0.9234,
        "iou_macro": 0.7345,
        "f1_infection": None,
        "loss": 0.25,
        "loss_excess": 0.05,
    },
    "mask": {
        "dice": 0.9456,
        "iou": 0.8967,
        "hd95": 3.217,
        "dice_stored": 0.9412,
        "loss": 0.1,
        "loss_excess": 0.1,
    },
    "diagnosis": {"auc": 0.9789, "accuracy": 0.9123, "loss": 0.1, "loss_excess": 0.1},
}
EPOCH_SCORES = {"three_level": "iou_macro", "mask": "mean_iou", "diagnosis": "accuracy"}
# Of a whole run, in the order of the page.
FIGURES = {
    "three_level": ["training", "scores_test", "panels"],
    "mask": ["training", "thresholds_test", "calibration_test", "scores_test", "panels"],
    "diagnosis": ["training", "roc_test", "calibration_test"],
}
PAPER = {"mse": 0.00873, "precision": 0.8856, "recall": 0.8829, "iou": 0.93337}


def write_summary(workdir, split, task, **fields):
    content = report_summary.make(task, SCORES[task], split=split, **fields)
    (workdir / f"summary_{split}.json").write_text(json.dumps(content))


def fields_of(task):
    """Whatever a summary of the task may hold."""
    scores = SCORES[task]
    first = next(iter(scores))
    interval = {first: [0.3, 0.4]}
    group = {"num_images": 20, "scores": scores | {first: 0.4321}, "intervals": interval}
    baseline = {"description": "often lung", "scores": {first: 0.3217}, "intervals": interval}
    fields = {
        "intervals": interval,
        "by_group": {"COVID-19 & more": group},
        "baselines": {"mean_mask": baseline},
        "paper": PAPER if task == "three_level" else {},
    }
    if task == "mask":
        curve = {"thresholds": [0.25, 0.75], "dice": [0.5, 0.75], "iou": [0.25, 0.5]}
        fields |= {"threshold": 0.5, "thresholds": curve, "undefined": {"hd95": 3}}
    if task != "three_level":
        fields["calibration"] = report_summary.CALIBRATION
    if task != "diagnosis":
        fields["by_size"] = report_summary.make_sizes()
    if task == "diagnosis":
        roc = {"fpr": [0, 0.2, 1], "tpr": [0, 0.9, 1], "thresholds": [None, 0.7, 0.1]}
        roc |= {"auc": 0.9789, "auc_interval": [0.9612, 0.9934]}
        fields |= {"threshold": 0.37, "roc": roc, "confusion": [[24, 6], [1, 9]]}
    return fields


def write_run(workdir, task):
    """All files that a finished run leaves."""
    for split in ("train", "validation", "test"):
        write_summary(workdir, split, task, **fields_of(task))
    config = {"seed": 0, "data": {"name": EVIL, "phantom_images": 40}, "augment": {}}
    (workdir / "config.json").write_text(json.dumps(config))
    with (workdir / "metrics.csv").open("w") as file:
        writer = csv.writer(file)
        score = EPOCH_SCORES[task]
        writer.writerow(["step", *run_files.METRICS, score, f"val_{score}"])
        writer.writerow([10, 1, 0.5, 0.4, 0.6, 0.5, 1e-3, "nan", 3, 0.8, 0.7])
        writer.writerow([20, 2, 0.4, 0.3, 0.5, 0.4, 5e-4, 9, 3, 0.9, 0.85])
    if task != "diagnosis":
        write_images(workdir, [EVIL, "image & 2"])


def write_images(workdir, ids):
    with (workdir / "scores_test.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "patient_id", "group", "f1_macro", "dice"])
        writer.writerows([[name, name, "COVID-19", 0.5, 0.7] for name in ids])
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16), np.uint8)
    np.savez(
        workdir / "panels_test.npz",
        image=images,
        raw=np.float32(images / 255),
        pred=images // 128 * np.uint8(255),
        target=images // 128 * np.uint8(255),
        kind=np.array(["best", "worst"]),
        image_id=np.array(ids),
        score=np.float32([0.9, 0.1]),
        score_name=np.array("dice"),
    )


class PageTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.workdir = epath.Path(self.create_tempdir().mkdir("my [1] <run>"))

    def build(self):
        path = page.build(self.workdir)
        assert path == self.workdir.resolve() / "report.html"
        return path.read_text()

    @parameterized.parameters("three_level", "mask", "diagnosis")
    def test_a_whole_run_makes_a_whole_page(self, task):
        write_run(self.workdir, task)
        text = self.build()
        parsed = page_parser.Page(text)
        names = [f"figures/{name}.png" for name in FIGURES[task]]
        assert parsed.tags.count("img") == len(names)
        assert all(parsed.alts)
        with self.subTest("self-contained"):
            data = [each for each in parsed.references if each.startswith("data:image/png;base64,")]
            links = [each for each in parsed.references if each not in data]
            # Light and dark; panels suit both.
            assert len(data) == 2 * len(names) - ("panels" in FIGURES[task])
            assert all((self.workdir / link).exists() for link in links)
            assert {"metrics.csv", "summary_test.json", *names} <= set(links)
            assert "http:" not in text
            assert "https:" not in text
        with self.subTest("escaped"):
            assert "<script" not in text
            assert "script" not in parsed.tags
            assert EVIL in html.unescape(text)
        with self.subTest("figures"):
            for name in names:
                with Image.open(self.workdir / name) as image:
                    assert image.width > 1000
        with self.subTest("nothing temporary stays"):
            assert not list(pathlib.Path(self.workdir).rglob("*.tmp"))

    def test_numbers_and_notes_stand_in_their_places(self):
        write_run(self.workdir, "three_level")
        text = self.build()
        cells = page_parser.Page(text).cells
        dash = "\N{EN DASH}"
        ours, paper = f"0.001230.3000{dash}0.4000", "0.00873"
        mse = cells.index("MSE")
        assert cells[mse + 1 : mse + 7] == [ours, paper] * 3
        iou = cells.index("IoU")
        assert cells[iou + 1 : iou + 8] == ["macro", *["0.7345", "0.93337"] * 3]
        heads = [f"{split}40 images" for split in ("train", "validation", "test")]
        assert cells[:7] == ["Score", heads[0], "paper", heads[1], "paper", heads[2], "paper"]
        baselines = cells.index("mean maskoften lung")
        assert cells[baselines + 2 : baselines + 5] == ["MSE", ours, f"0.321700.3000{dash}0.4000"]
        groups = cells.index("COVID-19 & more20 images")
        assert f"0.432100.3000{dash}0.4000" in cells[groups:]
        infection = len(cells) - 1 - cells[::-1].index("infection")
        assert cells[infection + 1] == dash
        assert "its IoU is 0.93337 and its precision 0.8856" in text
        assert "Generated X-rays" in text
        assert "so this page shows no calibration" in text
        assert "Score by size of infection" in text

    def test_a_mask_has_its_threshold_calibration_sizes_and_what_is_undefined(self):
        write_run(self.workdir, "mask")
        text = self.build()
        assert "HD95 in 3 of 40 test images" in text
        assert "if the output is above 0.5, the threshold chosen on the validation split" in text
        assert '<span class="muted">HD95, pixels</span>' in text
        assert "95 %: 0.300\N{EN DASH}0.400" not in text  # Of Dice, not of Dice at stored size.
        parsed = page_parser.Page(text)
        assert "differences in colour" in parsed.alts[-1]
        assert f"best: {EVIL}, Dice 0.900" in parsed.alts[-1]
        assert "ECE 0.0101 (95 % interval 0.009\N{EN DASH}0.012), ACE 0.0700." in parsed.alts[2]
        cells = page_parser.Page(text).cells
        row = cells.index("largest")
        assert cells[row + 1 : row + 3] == ["10,000,000\N{EN DASH}19,000,000", "5"]
        for term in ("ECE", "ACE", "Quartiles of size"):
            assert f"<dt>{term}</dt>" in text
        assert "no calibration" not in text

    def test_a_diagnosis_has_its_calls_and_curve_and_no_panels(self):
        write_run(self.workdir, "diagnosis")
        text = self.build()
        cells = page_parser.Page(text).cells
        row = cells.index("is COVID-19")
        assert cells[row + 1 : row + 4] == ["110.0 %", "990.0 %", "10"]
        assert "at the threshold 0.37, chosen on the validation split" in text
        assert "AUC 0.9789 (95 % interval 0.961\N{EN DASH}0.993)" in text
        titles = re.findall("<h2>(.*)</h2>", text)
        assert titles == [
            "The run",
            "Scores",
            "Correct and wrong classifications",
            "Network and baselines",
            "Groups of images",
            "Training",
            "ROC curve",
            "Calibration",
            "Glossary",
            "Files",
        ]

    def test_a_lone_summary_is_enough(self):
        write_summary(self.workdir, "test", "mask")
        text = self.build()
        parsed = page_parser.Page(text)
        assert "img" not in parsed.tags
        titles = re.findall("<h2>(.*)</h2>", text)
        assert titles == ["Scores", "Glossary", "Files"]
        assert "the paper" not in parsed.cells
        assert "0.9412" in text
        assert not (self.workdir / "figures").exists()

    def test_no_summary_is_an_error_and_leaves_no_page(self):
        with pytest.raises(ValueError, match="found none"):
            page.build(self.workdir)
        assert not (self.workdir / "report.html").exists()

    def test_the_room_holds_no_jax(self):
        code = (
            "import sys, jaxlung.report.page;"
            "sys.exit(any(name in sys.modules for name in ('jax', 'tensorflow')))"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
