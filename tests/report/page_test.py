"""The page: whole, self-contained, escaped, and with its numbers in place."""

import csv
import html.parser
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

from jaxlung.report import page

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "img", "source", "br", "link", "input", "hr"}
LEVELS = {"three_level": ["outside", "lung", "infection"], "mask": ["background", "lung"]}
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
    "mask": {"dice": 0.9456, "iou": 0.8967, "dice_stored": 0.9412, "loss": 0.1, "loss_excess": 0.1},
}
PAPER = {"mse": 0.00873, "precision": 0.8856, "recall": 0.8829, "iou": 0.93337}


class Parser(html.parser.HTMLParser):
    """Checks that tags balance; collects tags, references, texts of cells and alt texts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.references, self.alts, self.cells = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.references += [attrs[name] for name in ("src", "href", "srcset") if name in attrs]
        if tag == "img":
            self.alts.append(attrs["alt"])
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data


def write_summary(workdir, split, task, **fields):
    content = {
        "split": split,
        "num_images": 40,
        "step": 1500,
        "task": task,
        "levels": LEVELS[task],
        "scores": SCORES[task],
        "by_group": {},
        "baselines": {},
        "paper": {},
    }
    (workdir / f"summary_{split}.json").write_text(json.dumps(content | fields))


def write_run(workdir, task):
    """All files that a finished run leaves."""
    scores = SCORES[task]
    first = next(iter(scores))
    fields = {
        "by_group": {"COVID-19 & more": {"num_images": 20, "scores": scores | {first: 0.4321}}},
        "baselines": {"mean_mask": {"description": "often lung", "scores": {first: 0.3217}}},
        "paper": PAPER if task == "three_level" else {},
    }
    for split in ("train", "validation", "test"):
        write_summary(workdir, split, task, **fields)
    config = {"seed": 0, "data": {"name": EVIL, "phantom_images": 40}, "augment": {}}
    (workdir / "config.json").write_text(json.dumps(config))
    with (workdir / "metrics.csv").open("w") as file:
        writer = csv.writer(file)
        names = ("loss", "loss_excess", "val_loss", "val_loss_excess", "images_per_s", "seconds")
        writer.writerow(["step", "epoch", *names])
        writer.writerows([[10, 1, 0.5, 0.4, 0.6, 0.5, "nan", 3], [20, 2, 0.4, 0.3, 0.5, 0.4, 9, 3]])
    ids = [EVIL, "image & 2"]
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

    @parameterized.parameters("three_level", "mask")
    def test_a_whole_run_makes_a_whole_page(self, task):
        write_run(self.workdir, task)
        text = self.build()
        parsed = Parser(text)
        assert parsed.tags.count("img") == 3
        assert all(parsed.alts)
        with self.subTest("self-contained"):
            data = [each for each in parsed.references if each.startswith("data:image/png;base64,")]
            links = [each for each in parsed.references if each not in data]
            assert len(data) == 5  # Curves and spread, light and dark; panels.
            assert all((self.workdir / link).exists() for link in links)
            assert {"metrics.csv", "scores_test.csv", "figures/panels.png"} <= set(links)
            assert "http:" not in text
            assert "https:" not in text
        with self.subTest("escaped"):
            assert "<script" not in text
            assert "script" not in parsed.tags
            assert f"best: {EVIL}, Dice 0.900" in parsed.alts[-1]
        with self.subTest("figures"):
            for name in ("loss.png", "panels.png", "scores_test.png"):
                with Image.open(self.workdir / "figures" / name) as image:
                    assert image.width > 1000
        with self.subTest("nothing temporary stays"):
            assert not list(pathlib.Path(self.workdir).rglob("*.tmp"))

    def test_numbers_and_notes_stand_in_their_places(self):
        write_run(self.workdir, "three_level")
        text = self.build()
        cells = [" ".join(cell.split()) for cell in Parser(text).cells]
        ours, paper = cells.index("test40 images"), cells.index("the paper")
        dash = "\N{EN DASH}"
        assert cells[ours + 1 : ours + 3] == ["0.00123", "0.8123"]
        assert cells[paper + 1 : paper + 5] == ["0.00873", "", "", "0.9334"]
        assert cells[cells.index("network" + "step 1,500") + 1] == "0.00123"
        assert cells[cells.index("mean maskoften lung") + 1] == "0.32170"
        assert cells[cells.index("COVID-19 & more20 images") + 1] == "0.43210"
        assert cells[cells.index("infection") + 1] == dash
        assert "0.93337 stands beside 0.8856" in text
        assert "Generated X-rays" in text

    def test_a_lone_summary_is_enough(self):
        write_summary(self.workdir, "test", "mask")
        text = self.build()
        parsed = Parser(text)
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
