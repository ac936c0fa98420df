"""The table of scores by size."""

from absl.testing import parameterized

from jaxlung.config import run_files
from jaxlung.report import sizes
from tests.report import report_summary

DASH = "\N{EN DASH}"


def table_of(task, unit):
    by_size = report_summary.make_sizes(unit)
    return sizes.size_table(run_files.Summary(**report_summary.make(task, {}, by_size=by_size)))


class SizesTest(parameterized.TestCase):
    def test_a_row_per_quartile_and_one_of_the_images_without_any(self):
        table = table_of("mask", "pixels")
        heads = [column.head for column in table.columns]
        assert heads == ["Annotated, pixels", "Images", "Dice", "IoU", "Nothing found"]
        rows = {row.label: [cell.text for cell in row.cells] for row in table.blocks[0].rows}
        assert rows == {
            "smallest": [f"10{DASH}19", "5", "0.5000", "0.2500", "1"],
            "second": [f"1,000{DASH}1,900", "5", "0.6000", "0.2500", "1"],
            "third": [f"100,000{DASH}190,000", "5", "0.7000", "0.2500", "1"],
            "largest": [f"10,000,000{DASH}19,000,000", "5", "0.8000", "0.2500", "1"],
            "none": ["0", "1,234", DASH, DASH, "1,200"],
        }
        assert table.blocks[0].rows[0].cells[2].note == f"0.400{DASH}0.900"

    def test_no_row_without_an_image(self):
        by_size = report_summary.make_sizes()
        by_size["without"] = {"num_images": 0, "num_nothing_found": 0}
        summary = run_files.Summary(**report_summary.make("mask", {}, by_size=by_size))
        labels = [row.label for row in sizes.size_table(summary).blocks[0].rows]
        assert labels == list(sizes.QUARTILES)

    def test_volumes_are_in_ml(self):
        table = table_of("volume_mask", "mL")
        assert [column.head for column in table.columns[:2]] == ["Annotated, mL", "Volumes"]
        assert table.blocks[0].rows[1].cells[0].text == f"1,000.00{DASH}1,900.00"

    def test_few_images_have_no_table(self):
        assert sizes.size_table(run_files.Summary(**report_summary.make("mask", {}))) is None
