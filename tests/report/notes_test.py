"""What stands below the tables."""

import dataclasses

from absl.testing import parameterized

from jaxlung.config import run_files
from jaxlung.report import notes
from tests.report import report_summary


def summary_of(task="mask", **fields):
    return run_files.Summary(**report_summary.make(task, {"dice": 0.5}, **fields))


class NotesTest(parameterized.TestCase):
    def test_nothing_to_say(self):
        assert notes.list_notes([summary_of(undefined={"hd95": 0})]) == []

    @parameterized.parameters((40, "over images"), (31, "over patients"))
    def test_intervals_say_what_was_drawn(self, num_patients, words):
        summary = summary_of(intervals={"dice": [0.4, 0.6]}, num_patients=num_patients)
        (note,) = notes.list_notes([summary_of(), summary])
        assert words in note

    def test_undefined_scores_are_counted(self):
        train = summary_of(split="train", undefined={"hd95": 2, "asd": 2, "dice": 1})
        assert notes.list_notes([train, summary_of()]) == [
            "Undefined, and left out of the mean: HD95 and ASD in 2 of 40 train images;"
            " Dice in 1 of 40 train images."
        ]

    def test_scores_of_a_whole_split_that_are_0_by_0_are_named(self):
        scores = {"dice": 0.5, "precision_pooled": None, "hd95": None}
        summary = dataclasses.replace(summary_of(undefined={"hd95": 40}), scores=scores)
        assert notes.list_notes([summary])[1:] == [
            "Without a value (0 / 0) in the test split: Precision pooled."
        ]

    def test_intervals_of_few_patients_are_warned_of(self):
        few = summary_of(intervals={"dice": [0.4, 0.6]}, num_patients=4)
        (note,) = notes.warn_of_few(few)
        assert "Intervals from 4 patients are rough" in note
        assert note in notes.list_notes([few])
        assert notes.warn_of_few(dataclasses.replace(few, num_patients=30)) == []
        assert notes.warn_of_few(dataclasses.replace(few, intervals={})) == []

    def test_an_impossible_average_is_told(self):
        paper = {"precision": 0.8856, "iou": 0.93337}
        (note,) = notes.list_notes([summary_of("three_level", paper=paper)])
        assert "its IoU is 0.93337 and its precision 0.8856" in note
        (note,) = notes.list_notes([summary_of(paper={"iou": 0.9})])
        assert "means over images" in note

    def test_the_config_says_where_the_papers_numbers_are_from(self):
        train = summary_of(split="train", paper={"accuracy_at_half": 0.9697})
        (note,) = notes.list_notes([train, summary_of()], "Accuracy is at 0.5.")
        assert "Accuracy is at 0.5." in note
        assert notes.list_notes([summary_of()], "Accuracy is at 0.5.") == []
