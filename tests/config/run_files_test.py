"""Files of a workdir are read, and damaged ones named."""

import json

import numpy as np
import pytest
from absl.testing import parameterized
from etils import epath

from jaxlung.config import run_files
from tests.report import report_summary


class RunFilesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.workdir = epath.Path(self.create_tempdir())

    def write(self, name, text):
        (self.workdir / name).write_text(text)

    def test_an_empty_workdir_has_no_summary(self):
        with pytest.raises(ValueError, match=r"want a summary_<split>.json .* found none"):
            run_files.load_summaries(self.workdir)

    @parameterized.parameters(
        ("{", "want JSON"),
        ("[" * 100_000, "want JSON"),
        ("[]", "want a JSON object, got list"),
        ('{"split": "test"}', "lacks"),
    )
    def test_a_damaged_summary_is_named(self, text, message):
        self.write("summary_test.json", text)
        with pytest.raises(ValueError, match=rf"summary_test\.json: .*{message}"):
            run_files.load_summaries(self.workdir)

    @parameterized.parameters(
        ("levels", ["lung"], "levels: want two names"),
        ("num_patients", "many", "num_patients: want a whole number, got 'many'"),
        ("scores", {"dice": "good"}, "scores.dice: want a number or null"),
        ("scores", [0.5], "scores: want an object"),
        ("intervals", {"dice": [0.5]}, r"intervals.dice: want \[low, high\]"),
        ("intervals", {"dice": 0.5}, r"intervals.dice: want \[low, high\]"),
        ("sd", {"dice": "wide"}, "sd.dice: want a number or null"),
        ("sd", None, "sd: want an object"),
        ("by_group", {"a": {"num_images": 1, "scores": {}}}, "by_group.a: .* lacks intervals"),
        ("baselines", {"a": 3}, "baselines.a: want an object, got 3"),
        ("paper", {"dice": "0.9"}, "paper.dice: want a number"),
        ("threshold", "0.5", "threshold: want a number or null"),
        ("thresholds", {"thresholds": [0.5], "dice": [1.0]}, "thresholds: .* lacks iou"),
        ("thresholds", {"thresholds": [0.5], "dice": [], "iou": []}, "got 1, 0, 0 values"),
        ("roc", {"thresholds": [None], "fpr": [0], "tpr": [0]}, "roc: .* lacks auc"),
        ("calibration", {"counts": [1], "mean_prob": [0.5]}, "calibration: .* lacks fraction"),
        ("calibration", report_summary.CALIBRATION | {"counts": [1]}, "got 1, 4, 4 values"),
        ("calibration", report_summary.CALIBRATION | {"ace": "low"}, "calibration.ace: want a num"),
        (
            "calibration",
            report_summary.CALIBRATION | {"ece_interval": [0.5]},
            r"calibration.ece_interval: want \[low, high\]",
        ),
        ("by_size", {"unit": "mL"}, "by_size: .* lacks quartiles"),
        ("by_size", report_summary.make_sizes() | {"quartiles": []}, "quartiles: want 4 objects"),
        ("by_size", report_summary.make_sizes() | {"quartiles": [3] * 4}, "quartiles.0: want an"),
        ("by_size", report_summary.make_sizes() | {"without": {}}, "without: .* lacks num_images"),
        ("confusion", [[1, 2]], "confusion: want 2 x 2 counts"),
        ("confusion", [[1, 2], [3, 0.5]], "confusion: want 2 x 2 counts"),
        ("undefined", {"hd95": "two"}, "undefined.hd95: want a number"),
        ("temperature", "1.3", "temperature: want a number or null"),
        ("temperature", 0, "temperature: want a number above 0"),
        ("temperature", float("inf"), "temperature: want a number above 0"),
        ("calibration_before", {"counts": [1]}, "calibration_before: .* lacks mean_prob"),
    )
    def test_a_wrong_field_of_a_summary_is_named(self, name, value, message):
        content = report_summary.make("mask", {"dice": 0.5})
        self.write("summary_test.json", json.dumps(content))
        assert run_files.load_summaries(self.workdir)[0].scores == {"dice": 0.5}
        self.write("summary_test.json", json.dumps(content | {name: value}))
        with pytest.raises(ValueError, match=rf"summary_test\.json: .*{message}"):
            run_files.load_summaries(self.workdir)

    @parameterized.parameters("sd", "calibration", "calibration_before", "by_size")
    def test_a_summary_of_before_there_was_a_field_has_nothing_in_it(self, name):
        content = report_summary.make("mask", {"dice": 0.5})
        del content[name]
        self.write("summary_test.json", json.dumps(content))
        assert getattr(run_files.load_summaries(self.workdir)[0], name) == {}

    def test_a_summary_of_before_there_were_temperatures_has_none(self):
        content = report_summary.make("mask", {"dice": 0.5})
        del content["temperature"]
        self.write("summary_test.json", json.dumps(content))
        assert run_files.load_summaries(self.workdir)[0].temperature is None

    def test_calibration_and_sizes_are_read_as_they_are(self):
        fields = {"calibration": report_summary.CALIBRATION, "by_size": report_summary.make_sizes()}
        content = report_summary.make("mask", {"dice": 0.5}, **fields)
        self.write("summary_test.json", json.dumps(content))
        (summary,) = run_files.load_summaries(self.workdir)
        assert {name: getattr(summary, name) for name in fields} == fields

    def test_summaries_come_in_the_order_of_splits(self):
        for split in ("validation", "test", "train"):
            content = report_summary.make("mask", {}, split=split)
            self.write(f"summary_{split}.json", json.dumps(content))
        got = [summary.split for summary in run_files.load_summaries(self.workdir)]
        assert got == ["train", "validation", "test"]

    def write_metrics(self, names, *rows):
        self.write("metrics.csv", "\n".join([",".join(names), *rows]))

    def test_half_a_last_row_is_left_out(self):
        full = ",".join("1" * len(run_files.METRICS))
        self.write_metrics(run_files.METRICS, full, "2,0.5")
        np.testing.assert_array_equal(run_files.load_metrics(self.workdir)["loss"], [1.0])

    def test_a_missing_column_is_named(self):
        self.write_metrics(("epoch", "loss"), "1,0.5")
        with pytest.raises(
            ValueError, match=r"metrics\.csv: want the columns .* lacks loss_excess"
        ):
            run_files.load_metrics(self.workdir)

    @parameterized.parameters(
        ("x", "want numbers"), ("inf", "want finite numbers"), ("1,1", "want 8 cells, got 9")
    )
    def test_metrics_of_another_shape_are_named(self, cell, message):
        row = ["1"] * (len(run_files.METRICS) - 1) + [cell]
        self.write_metrics(run_files.METRICS, ",".join(row))
        with pytest.raises(ValueError, match=rf"metrics\.csv: .*{message}"):
            run_files.load_metrics(self.workdir)

    @parameterized.parameters(3, "a", [[1]], None)
    def test_a_section_of_the_config_that_is_no_object_is_named(self, value):
        self.write("config.json", json.dumps({"control": value}))
        with pytest.raises(ValueError, match=r"config\.json: control: want an object"):
            run_files.load_config(self.workdir)

    def test_a_summary_under_another_splits_name_is_named(self):
        self.write("summary_train.json", json.dumps(report_summary.make("mask", {})))
        with pytest.raises(ValueError, match=r"summary_train\.json: split: want train, got 'test'"):
            run_files.load_summaries(self.workdir)

    def test_what_is_no_text_is_named(self):
        (self.workdir / "metrics.csv").write_bytes(b"epoch\n\xff\xfe")
        with pytest.raises(ValueError, match=r"metrics\.csv: want a CSV table"):
            run_files.load_metrics(self.workdir)

    def test_the_score_of_epochs_has_a_twin(self):
        names = [*run_files.METRICS, "iou_macro"]
        assert run_files.find_epoch_score(dict.fromkeys(names)) == ""
        assert run_files.find_epoch_score(dict.fromkeys([*names, "val_iou_macro"])) == "iou_macro"

    def test_empty_cells_are_nan(self):
        self.write("scores_test.csv", "image_id,patient_id,group,dice\na,a,,0.5\nb,b,,\n")
        scores = run_files.load_image_scores(self.workdir, "test", ["f1_macro", "dice"])
        np.testing.assert_array_equal(scores.values, [0.5, np.nan])
        assert (scores.name, scores.groups) == ("dice", ["", ""])

    def test_what_is_missing_is_nothing(self):
        assert run_files.load_config(self.workdir) == {}
        assert run_files.load_metrics(self.workdir) == {}
        assert run_files.load_image_scores(self.workdir, "test", ["dice"]) is None
        assert run_files.load_panels(self.workdir) is None

    def test_damaged_panels_are_named(self):
        self.write("panels_test.npz", "not a zip")
        with pytest.raises(ValueError, match=r"panels_test\.npz: want an \.npz"):
            run_files.load_panels(self.workdir)
        self.write("panels_test.npz", "")
        with pytest.raises(ValueError, match=r"panels_test\.npz: want an \.npz"):
            run_files.load_panels(self.workdir)
        np.savez(self.workdir / "panels_test.npz", image=np.zeros((1, 2, 2)))
        with pytest.raises(ValueError, match=r"panels_test\.npz: .*raw"):
            run_files.load_panels(self.workdir)
