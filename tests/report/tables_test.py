"""Which number stands in which row and column."""

from absl.testing import parameterized

from jaxlung.config import run_files
from jaxlung.report import diagnosis_terms, glossary, tables, terms
from jaxlung.tasks import words
from tests.report import report_summary

DASH = "\N{EN DASH}"
LEVELS = report_summary.LEVELS["three_level"]


def summary_of(scores, split="test", task="three_level", **fields):
    return run_files.Summary(**report_summary.make(task, scores, split=split, **fields))


def column_of(table, index=0):
    """Texts of a column, top to bottom; None where the cell above goes on."""
    rows = [row for block in table.blocks for row in block.rows]
    return [row.cells[index] and row.cells[index].text for row in rows]


def notes_of(table, index=0):
    return [row.cells[index].note for block in table.blocks for row in block.rows]


def labels_of(table):
    return {block.title: [row.label for row in block.rows] for block in table.blocks}


class GlossaryTest(parameterized.TestCase):
    @parameterized.parameters(
        ("mse", 0.008731, "0.00873"),
        ("f1_macro", 0.87654, "0.8765"),
        ("hd95", 12.345, "12.35"),
        ("volume_ml", 1234.567, "1234.57"),
        ("share", 0.12345, "12.35"),
        ("unheard_of", 12.0, "12.0000"),
        ("f1_macro", None, DASH),
        ("f1_macro", float("nan"), DASH),
        ("loss", float("inf"), DASH),
    )
    def test_numbers_have_their_decimals(self, key, value, want):
        assert glossary.format_score(key, value) == want

    @parameterized.parameters(
        ("dice", [0.91234, 0.9256], "0.912-0.926"),
        ("dice_stored", [0.91234, 0.9256], "0.912-0.926"),
        ("dice", [0.91234, 0.91241], "0.9123-0.9124"),  # Three decimals would not tell them apart.
        ("hd95", [3.14, 12.06], "3.1-12.1"),
        ("share", [0.0512, 0.1234], "5.1-12.3"),
        ("dice", None, ""),
        ("dice", [None, 0.5], ""),
        ("dice", [0.5, float("nan")], ""),
    )
    def test_intervals_have_one_decimal_less(self, key, interval, want):
        assert glossary.format_interval(key, interval) == want.replace("-", DASH)

    @parameterized.parameters("mask", "three_level", "diagnosis")
    def test_every_row_and_headline_has_a_definition(self, task):
        groups = diagnosis_terms.GROUPS if task == "diagnosis" else terms.GROUPS
        keys = [key for group in groups for key in group.labels]
        for key in [*keys, *words.find(task).headlines]:
            assert glossary.find_term(key, task, LEVELS).definition

    def test_a_diagnosis_counts_images(self):
        assert "pixels" in glossary.find_term("accuracy", "mask").definition
        assert "images" in glossary.find_term("accuracy", "diagnosis").definition

    def test_levels_are_named_in_the_label(self):
        assert glossary.find_term("f1_infection", "", LEVELS).label == "F1 infection"
        assert glossary.find_term("dice_stored").label == "Dice at stored size"
        assert glossary.find_term("f1_heart", "", LEVELS).label == "f1_heart"


class TablesTest(parameterized.TestCase):
    def test_paper_numbers_span_the_averages_they_may_mean(self):
        scores = {"mse": 0.5, "iou_macro": 0.25, "iou_micro": 0.75}
        table = tables.split_table([summary_of(scores, paper={"mse": 0.125, "iou": 0.9})])
        assert labels_of(table) == {"IoU": ["macro", "micro"], "Raw output": ["MSE"]}
        assert [(c.head, c.note) for c in table.columns] == [("test", "40 images"), ("paper", "")]
        assert column_of(table, 0) == ["0.2500", "0.7500", "0.50000"]
        assert column_of(table, 1) == ["0.9", None, "0.125"]
        assert [row.cells[1].span for block in table.blocks for row in block.rows[:1]] == [2, 1]

    def test_paper_numbers_of_masks_stand_beside_means(self):
        scores = {"mean_iou": 0.5, "mean_iou_pooled": 0.6, "accuracy": 0.7}
        paper = {"mean_iou": 0.95308775, "accuracy": [0.97, 0.98]}
        table = tables.split_table([summary_of(scores, task="mask", paper=paper)])
        assert column_of(table, 1) == ["0.95308775", f"0.97{DASH}0.98", ""]

    @parameterized.parameters("mask", "diagnosis")
    def test_accuracy_at_one_half_has_a_row_unless_it_is_the_accuracy(self, task):
        scores = {"accuracy": 0.75, "accuracy_at_half": 0.5}
        for threshold, paper, want in (
            (0.2, {}, True),
            (0.5, {}, False),
            (0.5, {"accuracy_at_half": 0.9575}, True),
        ):
            summary = summary_of(scores, task=task, threshold=threshold, paper=paper)
            labels = labels_of(tables.split_table([summary]))
            assert ("At threshold 0.5" in labels) == want
        assert column_of(tables.split_table([summary]), 1) == ["", "0.9575"]

    def test_intervals_stand_beside_their_scores(self):
        scores, intervals = {"dice": 0.5, "iou": 0.25}, {"iou": [0.125, 0.375]}
        with_one = tables.split_table([summary_of(scores, task="mask", intervals=intervals)])
        assert notes_of(with_one) == ["", f"0.125{DASH}0.375"]
        assert with_one.has_notes
        assert not tables.split_table([summary_of(scores, task="mask")]).has_notes

    def test_patients_are_counted_where_they_are_known(self):
        assert tables.count_images(summary_of({}, num_images=1234)) == "1,234 images of 40 patients"
        assert tables.count_images(summary_of({})) == "40 images"

    def test_a_score_that_a_split_lacks_is_a_dash(self):
        table = tables.split_table([summary_of({"dice": 0.5}, "train"), summary_of({"iou": 0.25})])
        assert [column_of(table, i) for i in (0, 1)] == [["0.5000", DASH], [DASH, "0.2500"]]

    def test_unknown_scores_are_shown_by_their_names(self):
        table = tables.split_table([summary_of({"unheard_of": 3.0, "f1_lung": 1.0})])
        assert labels_of(table) == {"Other": ["unheard_of"]}

    def test_scores_at_the_stored_size_have_a_table_of_their_own(self):
        scores = {"dice": 0.5, "dice_stored": 0.25, "iou_pooled_stored": 0.125}
        summary = summary_of(scores, intervals={"dice": [0.4, 0.6], "dice_stored": [0.2, 0.3]})
        own = tables.split_table([summary])
        assert (column_of(own), notes_of(own)) == (["0.5000"], [f"0.400{DASH}0.600"])
        stored = tables.stored_table([summary])
        assert labels_of(stored) == {"Mean over images": ["Dice"], "All pixels pooled": ["IoU"]}
        assert column_of(stored) == ["0.2500", "0.1250"]
        assert notes_of(stored) == [f"0.200{DASH}0.300", ""]
        assert tables.stored_table([summary_of({"dice": 0.5})]) is None

    def test_a_loss_without_floor_has_one_row(self):
        with_floor = tables.split_table([summary_of({"loss": 0.5, "loss_excess": 0.25})])
        without = tables.split_table([summary_of({"loss": 0.5, "loss_excess": 0.5})])
        assert column_of(with_floor) == ["0.5000", "0.2500"]
        assert column_of(without) == ["0.5000"]

    def test_baselines_are_compared_in_the_scores_they_have(self):
        baselines = {
            "mean_mask": {
                "description": "often lung",
                "scores": {"dice": 0.75},
                "intervals": {"dice": [0.7, 0.8]},
            }
        }
        summary = summary_of({"dice": 0.875, "loss": 0.5}, baselines=baselines)
        table = tables.baseline_table(summary)
        heads = [(column.head, column.note) for column in table.columns]
        assert heads == [("network", "step 1,500"), ("mean mask", "often lung")]
        assert (column_of(table, 0), column_of(table, 1)) == (["0.8750"], ["0.7500"])
        assert notes_of(table, 1) == [f"0.700{DASH}0.800"]

    def test_groups_end_with_all_images(self):
        group = {"num_images": 7, "scores": {"dice": None}, "intervals": {}}
        table = tables.group_table(summary_of({"dice": 0.5}, by_group={"Normal": group}))
        heads = [(column.head, column.note) for column in table.columns]
        assert heads == [("Normal", "7 images"), ("all", "40 images")]
        assert [column_of(table, i) for i in (0, 1)] == [[DASH], ["0.5000"]]

    def test_levels_have_a_column_for_each_split(self):
        train = summary_of({"f1_lung": 0.9, "f1_infection": 0.8}, "train")
        test = summary_of({"f1_lung": 0.7}, intervals={"f1_lung": [0.6, 0.8]})
        table = tables.level_table([train, test])
        assert labels_of(table) == {"F1": LEVELS}
        assert [column.head for column in table.columns] == ["train", "test"]
        assert column_of(table, 1) == [DASH, "0.7000", DASH]
        assert notes_of(table, 1) == ["", f"0.600{DASH}0.800", ""]
        assert tables.level_table([summary_of({"dice": 1.0})]) is None

    def test_calls_are_counted_by_row(self):
        table = tables.confusion_table(
            summary_of({}, task="diagnosis", confusion=[[30, 10], [0, 0]])
        )
        rows = [(row.label, [c.text for c in row.cells]) for row in table.blocks[0].rows]
        assert rows == [("is other", ["30", "10", "40"]), ("is COVID-19", ["0", "0", "0"])]
        assert [column.head for column in table.columns] == [
            "called other",
            "called COVID-19",
            "total",
        ]
        assert (notes_of(table, 0), notes_of(table, 1)) == (["75.0 %", ""], ["25.0 %", ""])
        assert tables.confusion_table(summary_of({})) is None
