"""The reliability diagram and what is said of it."""

import dataclasses
import io

import numpy as np
from absl.testing import parameterized
from PIL import Image

from jaxlung.config import run_files
from jaxlung.report import figures, reliability
from tests.report import report_summary

DASH = "\N{EN DASH}"


def summary_of(task="mask", **changes):
    calibration = report_summary.CALIBRATION | changes
    return run_files.Summary(**report_summary.make(task, {}, calibration=calibration))


class DiagramTest(parameterized.TestCase):
    def test_points_and_gaps_are_those_of_the_filled_bins(self):
        upper, _ = reliability.diagram(summary_of()).axes
        lines = {line.get_label(): line.get_xydata() for line in upper.get_lines()}
        np.testing.assert_array_equal(lines["calibrated"], [[0, 0], [1, 1]])
        shown = lines["network"][np.isfinite(lines["network"]).all(axis=1)]
        np.testing.assert_array_equal(shown, [[0.01, 0.02], [0.6, 0.5], [0.9, 1.0]])
        gaps = [path.vertices for path in upper.collections[0].get_paths() if len(path.vertices)]
        gaps = [gap for gap in gaps if np.isfinite(gap).all()]
        want = [[[0.01, 0.01], [0.01, 0.02]], [[0.6, 0.6], [0.6, 0.5]], [[0.9, 0.9], [0.9, 1.0]]]
        np.testing.assert_array_equal(gaps, want)

    def test_bars_stand_in_their_bins(self):
        _, lower = reliability.diagram(summary_of()).axes
        assert [bar.get_height() for bar in lower.patches] == [9_000_000, 0, 600, 400]
        np.testing.assert_allclose([bar.get_x() for bar in lower.patches], [0, 0.25, 0.5, 0.75])
        assert lower.get_yscale() == "log"

    def test_the_network_without_its_temperature_is_a_line_of_its_own(self):
        before = report_summary.CALIBRATION | {"fraction": [0.1, None, 0.2, 0.3], "ece": 0.2}
        summary = dataclasses.replace(summary_of(), temperature=2.0, calibration_before=before)
        upper, _ = reliability.diagram(summary).axes
        lines = {line.get_label(): line.get_xydata() for line in upper.get_lines()}
        shown = lines["without temperature"]
        shown = shown[np.isfinite(shown).all(axis=1)]
        np.testing.assert_array_equal(shown, [[0.01, 0.1], [0.6, 0.2], [0.9, 0.3]])
        assert "without temperature: ECE 0.2000" in upper.get_title(loc="left")
        assert " Without the temperature: ECE 0.2000" in reliability.describe(summary)
        assert "ithout" not in reliability.describe(summary_of())

    @parameterized.parameters(
        {"counts": [1, 0, 0, 0]},
        {"mean_prob": [None] * 4, "fraction": [None] * 4},
        {"ece": None, "ece_interval": [None, None]},
    )
    def test_odd_numbers_are_drawn(self, **changes):
        png = figures.to_png(reliability.diagram(summary_of(**changes), figures.DARK))
        assert Image.open(io.BytesIO(png)).width > 1000


class WordsTest(parameterized.TestCase):
    def test_both_errors_have_the_intervals_that_are_known(self):
        got = reliability.spell_errors(report_summary.CALIBRATION)
        assert got == [f"ECE 0.0101 (95 % interval 0.009{DASH}0.012)", "ACE 0.0700"]
        assert reliability.title_of(report_summary.CALIBRATION) == ", ".join(got)

    @parameterized.parameters(
        ("mask", "lung", "pixels"),
        ("volume_mask", "infection", "voxels"),
        ("diagnosis", "COVID-19", "images"),
    )
    def test_the_alternative_text_has_the_numbers(self, task, target, counted):
        text = reliability.describe(summary_of(task, counts=[60, 0, 30, 10]))
        assert text.endswith(
            f"Mean probability and share of {target} in each filled bin: 0.01 and 0.02,"
            " 0.60 and 0.50, 0.90 and 1.00. The first of the 4 bins contains 60 % of the"
            f" {counted}, the last 10 %."
        )
