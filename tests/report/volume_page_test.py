"""The page of a run on CTs speaks of volumes, voxels, mm and mL."""

import html
import re

import numpy as np
from absl.testing import parameterized
from etils import epath
from PIL import Image

from jaxlung.config import run_files
from jaxlung.report import glossary, notes, page, tables, volume_terms
from jaxlung.tasks import words as task_words
from tests.report import report_summary, volume_run

DASH = "\N{EN DASH}"
SD = {"dice": 0.0812, "hd95": 3.21, "volume_ml": 30.0, "share": 0.05, "dice_pooled": None}
BASELINES = {
    "hu_band": {"description": "all of it", "scores": {"dice": 0.5}, "intervals": {}},
}
FIELDS = dict(
    sd=SD,
    intervals={"dice": [0.7, 0.8], "volume_error_ml": [-30.0, -5.0]},
    baselines=BASELINES,
    paper={"dice": 0.7627},
    threshold=0.5,
    undefined={"hd95": 1},
    by_group={"a": {"num_images": 1, "scores": volume_run.SCORES, "intervals": {}}},
    calibration=report_summary.CALIBRATION,
    by_size=report_summary.make_sizes("mL"),
)


def summary_of(task="volume_mask", **fields):
    return run_files.Summary(**report_summary.make(task, volume_run.SCORES, **fields))


def rows_of(table, index=0):
    """(heading, label) -> (text, note) of a column."""
    return {
        (block.title, row.label): (row.cells[index].text, row.cells[index].note)
        for block in table.blocks
        for row in block.rows
    }


class VolumeTablesTest(parameterized.TestCase):
    def test_means_have_their_spread_and_units(self):
        rows = rows_of(tables.split_table([summary_of(**FIELDS)]))
        assert rows == {
            ("Mean over volumes", "Dice"): ("0.750 ± 0.081", f"0.700{DASH}0.800"),
            ("Surfaces: distances in mm", "HD95"): ("12.3 ± 3.2", "n = 39"),
            ("Surfaces: distances in mm", "ASD"): ("1.50", ""),
            ("Surfaces: distances in mm", "NSD at 1 mm"): ("0.6250", ""),
            ("Surfaces: distances in mm", "NSD by area at 1 mm"): ("0.6875", ""),
            ("Volume, mL", "predicted"): ("150.0 ± 30.0", ""),
            ("Volume, mL", "annotated"): ("160.00", ""),
            ("Volume, mL", "error"): ("-10.00", "-30.0 to -5.0"),
            ("Share of the lungs, %", "predicted"): ("12.3 ± 5.0", ""),
            ("Share of the lungs, %", "annotated"): ("15.00", ""),
            ("Share of the lungs, %", "error"): ("-2.66", ""),
            ("All voxels pooled", "Dice"): ("0.7000", ""),
            ("Raw output", "MSE"): ("0.01000", ""),
        }

    def test_masks_of_images_show_no_spread(self):
        rows = rows_of(tables.split_table([summary_of("mask", sd=SD)]))
        assert rows["Mean over images", "Dice"] == ("0.7500", "")

    def test_volumes_are_counted(self):
        assert tables.count_images(summary_of(num_images=4, num_patients=4)) == "4 volumes"
        few = summary_of(num_images=2, num_patients=1)
        assert tables.count_images(few) == "2 volumes of 1 patient"
        assert [c.note for c in tables.group_table(summary_of(**FIELDS)).columns] == [
            "1 volume",
            "40 volumes",
        ]

    def test_notes_speak_of_volumes(self):
        text = " ".join(notes.list_notes([summary_of(**FIELDS)]))
        assert "HD95 in 1 of 40 test volumes" in text
        assert "a jackknife over volumes" in text
        assert "means over its four test volumes" in text

    def test_every_row_and_headline_has_a_definition_and_none_is_of_images(self):
        keys = [key for group in volume_terms.GROUPS for key in group.labels]
        assert set(task_words.find("volume_mask").headlines) <= set(keys)
        for key in keys:
            term = glossary.find_term(key, "volume_mask")
            assert term.definition
            assert not re.search("pixel|image|X-ray", term.definition)
        assert glossary.find_term("hd95", "volume_mask").unit == "mm"
        assert glossary.find_term("hd95", "mask").unit == "pixels"


class VolumePageTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.workdir = epath.Path(self.create_tempdir())

    def write_run(self):
        for split in ("train", "test"):
            volume_run.write_summary(self.workdir, split, **FIELDS)
            volume_run.write_scores(self.workdir, split)
        volume_run.write_planes(self.workdir)
        (self.workdir / "config.json").write_text(
            '{"task_name": "volume_mask", "data": {"phantom_images": 6},'
            ' "inference": {"overlap": 0.5, "inside_lungs": true}}'
        )
        names = [*run_files.METRICS, "dice", "val_dice"]
        numbers = np.ones((2, len(names))) * [[1], [2]]
        rows = [",".join(names), *(",".join(map(str, row)) for row in numbers)]
        (self.workdir / "metrics.csv").write_text("\n".join(rows))

    def build(self):
        return html.unescape(page.build(self.workdir).read_text())

    def test_a_whole_run_makes_a_whole_page(self):
        self.write_run()
        text = self.build()
        assert re.findall("<h2>(.*)</h2>", text) == [
            "The run",
            "Scores",
            "Single volumes",
            "Slices with the most infection",
            "Predicted and annotated volume",
            "Network and baselines",
            "Groups of volumes",
            "Score by size of infection",
            "Training",
            "Calibration",
            "Glossary",
            "Files",
        ]
        for name in ("planes", "volumes", "training"):
            with Image.open(self.workdir / f"figures/{name}.png") as image:
                assert image.width > 1000
            assert f'href="figures/{name}.png"' in text
        alts = re.findall('<img alt="(.*?)"', text)
        assert "case_2, Dice 0.250; slices: axial 4, coronal 4, sagittal 4" in alts[0]
        assert "2 train, 2 test" in alts[1]
        assert "test 150.0 predicted and 185.0 annotated." in alts[1]
        assert "Dice of training and validation" in alts[2]
        assert "of the voxels" in alts[3]

    def test_many_volumes_take_more_than_a_page_in_print(self):
        for number, tall in ((6, 0), (7, 1)):
            volume_run.write_summary(self.workdir)
            arrays = volume_run.make_planes([f"case_{i}" for i in range(number)])
            np.savez(self.workdir / "planes_test.npz", **arrays)
            assert self.build().count('<figure class="scroll wide tall"') == tall

    def test_it_speaks_of_volumes(self):
        self.write_run()
        # All but figures, style and the config as it is.
        text = re.sub('data:[^"]*|<(pre|style)>.*?</(pre|style)>', "", self.build(), flags=re.S)
        assert not re.findall(".*(?:pixel|X-ray|image).*", re.sub("<[^>]*>", "", text))
        for words in (
            "infection on CTs",
            "Generated CTs.",
            "A voxel counts as infection",
            "use each voxel on its own, without its neighbours",
            "validation score is the mean over whole volumes",
            "HU band",
            "±",
            "Volume error, mL",
            "Voxels outside the annotated lungs",
            "Most voxels are plain background",
            "Annotated, mL",
        ):
            assert words in text

    def test_a_lone_summary_is_enough(self):
        volume_run.write_summary(self.workdir)
        text = self.build()
        assert re.findall("<h2>(.*)</h2>", text) == ["Scores", "Glossary", "Files"]
        assert "<img" not in text
