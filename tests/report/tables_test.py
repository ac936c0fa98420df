"""Which number stands in which column."""

from absl.testing import parameterized

from jaxlung.report import glossary, run_files, tables

DASH = "\N{EN DASH}"
LEVELS = ["outside", "lung", "infection"]


def summary_of(scores, split="test", **fields):
    settings = dict(by_group={}, baselines={}, paper={}) | fields
    return run_files.Summary(split, 1234, 500, "three_level", LEVELS, scores, **settings)


def texts(row):
    return [cell.text for cell in row.cells]


class GlossaryTest(parameterized.TestCase):
    @parameterized.parameters(
        ("mse", 0.008731, "0.00873"),
        ("f1_macro", 0.87654, "0.8765"),
        ("unheard_of", 12.0, "12.0000"),
        ("f1_macro", None, DASH),
        ("f1_macro", float("nan"), DASH),
        ("loss", float("inf"), DASH),
    )
    def test_numbers_have_their_decimals(self, key, value, want):
        assert glossary.format_score(key, value) == want

    def test_every_column_has_a_definition(self):
        for group in glossary.GROUPS:
            for key in group.columns:
                assert glossary.TERMS[key].definition

    def test_levels_are_named_in_the_label(self):
        assert glossary.find_term("f1_infection", LEVELS).label == "F1 infection"
        assert glossary.find_term("dice_stored", LEVELS).label == "Dice at stored size"
        assert glossary.find_term("f1_heart", LEVELS).label == "f1_heart"


class TablesTest(parameterized.TestCase):
    def test_paper_numbers_span_the_averages_they_may_mean(self):
        scores = {"mse": 0.5, "iou_macro": 0.25, "iou_micro": 0.75}
        table = tables.split_table([summary_of(scores, paper={"mse": 0.125, "iou": 0.9})])
        assert [(cell.text, cell.span) for cell in table.groups] == [("Raw output", 1), ("IoU", 2)]
        assert [cell.text for cell in table.columns] == ["MSE", "macro", "micro"]
        ours, paper = table.rows
        assert (ours.head, ours.note) == ("test", "1,234 images")
        assert texts(ours) == ["0.50000", "0.2500", "0.7500"]
        assert [(cell.text, cell.span) for cell in paper.cells] == [("0.12500", 1), ("0.9000", 2)]

    def test_a_score_that_a_split_lacks_is_a_dash(self):
        table = tables.split_table([summary_of({"dice": 0.5}, "train"), summary_of({"iou": 0.25})])
        assert [texts(row) for row in table.rows] == [["0.5000", DASH], [DASH, "0.2500"]]

    def test_unknown_scores_are_shown_by_their_names(self):
        table = tables.split_table([summary_of({"hausdorff_mm": 3.0, "f1_lung": 1.0})])
        assert [cell.text for cell in table.groups] == ["Other"]
        assert [cell.text for cell in table.columns] == ["hausdorff_mm"]

    def test_scores_at_the_stored_size_have_a_table_of_their_own(self):
        summary = summary_of({"dice": 0.5, "dice_stored": 0.25, "iou_pooled_stored": 0.125})
        assert [texts(row) for row in tables.split_table([summary]).rows] == [["0.5000"]]
        stored = tables.stored_table([summary])
        assert [cell.text for cell in stored.groups] == ["Mean over images", "All pixels pooled"]
        assert [cell.text for cell in stored.columns] == ["Dice", "IoU"]
        assert [texts(row) for row in stored.rows] == [["0.2500", "0.1250"]]
        assert tables.stored_table([summary_of({"dice": 0.5})]) is None

    def test_a_loss_without_floor_has_one_column(self):
        with_floor = tables.split_table([summary_of({"loss": 0.5, "loss_excess": 0.25})])
        without = tables.split_table([summary_of({"loss": 0.5, "loss_excess": 0.5})])
        assert texts(with_floor.rows[0]) == ["0.5000", "0.2500"]
        assert texts(without.rows[0]) == ["0.5000"]

    def test_baselines_are_compared_in_the_scores_they_have(self):
        baselines = {"mean_mask": {"description": "often lung", "scores": {"dice": 0.75}}}
        summary = summary_of({"dice": 0.875, "loss": 0.5}, baselines=baselines)
        network, baseline = tables.baseline_table(summary).rows
        assert (network.head, texts(network)) == ("network", ["0.8750"])
        assert (baseline.head, baseline.note) == ("mean mask", "often lung")
        assert texts(baseline) == ["0.7500"]

    def test_groups_end_with_all_images(self):
        groups = {"Normal": {"num_images": 7, "scores": {"dice": None}}}
        rows = tables.group_table(summary_of({"dice": 0.5}, by_group=groups)).rows
        assert [(row.head, row.note, texts(row)) for row in rows] == [
            ("Normal", "7 images", [DASH]),
            ("all", "1,234 images", ["0.5000"]),
        ]

    def test_levels_have_a_column_for_each_split(self):
        train = summary_of({"f1_lung": 0.9, "f1_infection": 0.8}, "train")
        test = summary_of({"f1_lung": 0.7, "f1_infection": 0.6})
        table = tables.level_table([train, test])
        assert [(cell.text, cell.span) for cell in table.groups] == [("F1", 2)]
        assert [cell.text for cell in table.columns] == ["train", "test"]
        assert texts(table.rows[1]) == ["0.9000", "0.7000"]
        assert tables.level_table([summary_of({"dice": 1.0})]) is None
