"""Files of a workdir are read, and damaged ones named."""

import dataclasses
import json

import numpy as np
import pytest
from absl.testing import parameterized
from etils import epath

from jaxlung.report import run_files


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
        ("{", "want JSON"), ("[]", "want a JSON object, got list"), ('{"split": "test"}', "lacks")
    )
    def test_a_damaged_summary_is_named(self, text, message):
        self.write("summary_test.json", text)
        with pytest.raises(ValueError, match=rf"summary_test\.json: .*{message}"):
            run_files.load_summaries(self.workdir)

    def test_summaries_come_in_the_order_of_splits(self):
        for split in ("validation", "test", "train"):
            summary = run_files.Summary(split, 1, 1, "mask", ["background", "lung"], {}, {}, {}, {})
            self.write(f"summary_{split}.json", json.dumps(dataclasses.asdict(summary)))
        got = [summary.split for summary in run_files.load_summaries(self.workdir)]
        assert got == ["train", "validation", "test"]

    def test_half_a_last_row_is_left_out(self):
        self.write("metrics.csv", "step,epoch,loss\n10,1,0.5\n20,2")
        np.testing.assert_array_equal(run_files.load_metrics(self.workdir)["loss"], [0.5])

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
        np.savez(self.workdir / "panels_test.npz", image=np.zeros((1, 2, 2)))
        with pytest.raises(ValueError, match=r"panels_test\.npz: .*raw"):
            run_files.load_panels(self.workdir)
