"""Volumes against each other, and the table of single volumes."""

import io

import numpy as np
from absl.testing import parameterized
from etils import epath
from PIL import Image

from jaxlung.config import run_files
from jaxlung.report import amounts, figures, volume_files
from tests.report import volume_run

DASH = "\N{EN DASH}"


def amounts_of(predicted, annotated):
    return volume_files.Amounts(np.array(predicted, float), np.array(annotated, float))


class ScatterTest(parameterized.TestCase):
    def test_every_split_has_its_marks_and_the_line_is_of_equals(self):
        figure = amounts.scatter(
            {"train": amounts_of([1, 2], [3, 4]), "test": amounts_of([50], [60])}, "infection"
        )
        (axes,) = figure.axes
        equal, train, test = axes.get_lines()
        np.testing.assert_array_equal(equal.get_xdata(), equal.get_ydata())
        np.testing.assert_array_equal(train.get_xydata(), [[3, 1], [4, 2]])  # x is the truth.
        np.testing.assert_array_equal(test.get_xydata(), [[60, 50]])
        assert train.get_marker() != test.get_marker()
        assert train.get_color() != test.get_color()
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [
            "equal",
            "train: 2 volumes",
            "test: 1 volume",
        ]
        assert axes.get_xlabel() == "infection annotated, mL"
        assert axes.get_ylabel() == "infection predicted, mL"
        assert axes.get_xlim() == axes.get_ylim()
        assert axes.get_xlim()[1] > 60

    @parameterized.parameters(([0.0], [0.0]), ([0.001], [0.0]), ([9e5], [3.0]))
    def test_odd_volumes_are_drawn(self, predicted, annotated):
        figure = amounts.scatter({"test": amounts_of(predicted, annotated)}, "正常", figures.DARK)
        assert Image.open(io.BytesIO(figures.to_png(figure))).width > 1000


class SubjectTableTest(parameterized.TestCase):
    def test_the_papers_volumes_stand_below_with_its_digits(self):
        workdir = epath.Path(self.create_tempdir())
        volume_run.write_scores(workdir)
        rows = run_files.load_rows(workdir / "scores_test.csv")
        paper = [["A", [512, 512, 301], 0.8304, 0.7693, 0.71]]
        table = amounts.subject_table(rows, paper)
        heads = [column.head for column in table.columns]
        ours, theirs = table.blocks
        assert ours.rows == amounts.subject_table(rows).blocks[0].rows
        (row,) = theirs.rows
        cells = dict(zip(heads, [cell.text for cell in row.cells], strict=True))
        assert row.label == "A"
        assert {head: text for head, text in cells.items() if text} == {
            "Shape": "512 x 512 x 301",
            "Dice": "0.8304",
            "Sensitivity": "0.7693",
            "IoU": "0.71",
        }
        assert amounts.subject_table([], paper) is None

    def test_a_row_has_everything_about_a_volume(self):
        workdir = epath.Path(self.create_tempdir())
        volume_run.write_scores(workdir)
        table = amounts.subject_table(run_files.load_rows(workdir / "scores_test.csv"))
        heads = [column.head for column in table.columns]
        rows = {
            row.label: dict(zip(heads, [cell.text for cell in row.cells], strict=True))
            for row in table.blocks[0].rows
        }
        assert rows["case_1"] == {
            "Shape": "6 x 20 x 16",
            "Spacing, mm": "4 x 1.5 x 1",
            "Dice": "0.8000",
            "Sensitivity": "0.9000",
            "IoU": "0.7000",
            "Precision": "0.6000",
            "HD95, mm": "10.00",
            "Pred. mL": "100.00",
            "True mL": "120.00",
            "Pred. % of lungs": "5.00",
            "True % of lungs": "6.00",
        }
        assert rows["case_2"]["HD95, mm"] == DASH

    def test_images_have_no_such_table(self):
        assert amounts.subject_table([]) is None
        assert amounts.subject_table([{"image_id": "a", "dice": "0.5"}]) is None
