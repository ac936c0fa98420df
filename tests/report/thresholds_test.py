"""Curves against the threshold, and the point that was chosen."""

import numpy as np
from absl.testing import parameterized
from sklearn import metrics

from jaxlung.config import run_files
from jaxlung.report import figures, thresholds
from tests.report import report_summary

CHOSEN = 0.4


def diagnosis_of(seed, chosen=CHOSEN):
    """Labels, outputs and their summary; the curve is scikit-learn's."""
    np_rng = np.random.default_rng(seed)
    labels = np_rng.random(60) < 0.4
    outputs = np.round(np_rng.random(60) * 0.5 + labels * 0.3, 2)
    fpr, tpr, steps = metrics.roc_curve(labels, outputs, drop_intermediate=False)
    auc = metrics.roc_auc_score(labels, outputs)
    summary = report_summary.make(
        "diagnosis",
        {},
        threshold=chosen,
        confusion=metrics.confusion_matrix(labels, outputs > chosen).tolist(),
        roc={
            "fpr": fpr.tolist(),
            "tpr": tpr.tolist(),
            "thresholds": [None, *steps[1:].tolist()],
            "auc": auc,
            "auc_interval": [auc - 0.05, auc + 0.05],
        },
    )
    return labels, outputs, run_files.Summary(**summary)


class RocTest(parameterized.TestCase):
    @parameterized.product(seed=[0, 1], chosen=[0.0, 0.25, 0.4, 0.7])
    def test_the_chosen_point_lies_on_the_curve(self, seed, chosen):
        labels, outputs, summary = diagnosis_of(seed, chosen)
        fpr, tpr = thresholds.operating_point(summary.confusion)
        want = np.mean(outputs[~labels] > chosen), np.mean(outputs[labels] > chosen)
        np.testing.assert_allclose((fpr, tpr), want)
        distances = np.hypot(
            np.subtract(summary.roc["fpr"], fpr), np.subtract(summary.roc["tpr"], tpr)
        )
        assert distances.min() < 1e-9
        left = thresholds.roc_curves(summary).axes[0]
        (x,), (y,) = left.get_lines()[-1].get_data()
        np.testing.assert_allclose((x, y), want)

    def test_axes_are_named_by_their_formulas(self):
        left = thresholds.roc_curves(diagnosis_of(0)[2]).axes[0]
        assert left.get_xlabel() == "FPR = FP / (FP + TN)"
        assert left.get_ylabel() == "TPR = TP / (TP + FN)"
        shown = left.get_lines()[1]
        assert metrics.auc(*shown.get_data()) > 0.5

    def test_rates_by_threshold_are_shares_above_it(self):
        labels, outputs, summary = diagnosis_of(0)
        right = thresholds.roc_curves(summary).axes[1]
        for line, kind in zip(right.get_lines()[:2], (labels, ~labels), strict=True):
            steps, rates = line.get_data()
            assert line.get_drawstyle() == "steps-post"
            for x in (0.003, 0.255, 0.405, 0.601, 0.95):  # Between outputs: > is >=.
                got = rates[np.flatnonzero(steps >= x)[-1]]
                np.testing.assert_allclose(got, np.mean(outputs[kind] > x))

    def test_the_title_holds_area_and_interval(self):
        dash = "\N{EN DASH}"
        roc = {"auc": 0.985, "auc_interval": [0.9761, 0.9919]}
        assert thresholds.title_of(roc) == f"AUC 0.9850 (95 % interval 0.976{dash}0.992)"
        assert thresholds.title_of({"auc": None, "auc_interval": [None, None]}) == f"AUC {dash}"

    @parameterized.parameters([[]], [[[3, 1], [0, 0]]], [[[1, 0, 0], [0, 1, 0], [0, 0, 1]]])
    def test_no_point_without_both_kinds(self, confusion):
        assert thresholds.operating_point(confusion) is None

    def test_a_split_of_one_kind_is_drawn(self):
        roc = {"fpr": [None, None], "tpr": [0, 1], "thresholds": [None, 0.5]}
        roc |= {"auc": None, "auc_interval": [None, None]}
        summary = report_summary.make("diagnosis", {}, roc=roc, confusion=[[0, 0], [2, 3]])
        figures.to_png(thresholds.roc_curves(run_files.Summary(**summary), figures.DARK))


class OverlapTest(parameterized.TestCase):
    def summary_of(self, threshold):
        curves = {"thresholds": [0.2, 0.4, 0.6], "dice": [0.5, 0.9, 0.7], "iou": [0.4, 0.8, None]}
        content = report_summary.make("mask", {}, threshold=threshold, thresholds=curves)
        return run_files.Summary(**content)

    def test_the_chosen_threshold_is_marked_on_both_curves(self):
        axes = thresholds.overlap_curves(self.summary_of(0.3)).axes[0]
        marks = [line.get_data() for line in axes.get_lines() if line.get_marker() == "o"]
        np.testing.assert_allclose(np.ravel(marks), [0.3, 0.7, 0.3, 0.6])
        assert axes.texts[0].get_text() == "chosen: 0.3"

    def test_the_alternative_text_has_the_numbers(self):
        assert thresholds.describe_overlap(self.summary_of(0.3)) == (
            "Dice and IoU of the test split against 3 thresholds. Dice is highest at 0.4: 0.9000."
            " IoU is highest at 0.4: 0.8000. A line marks the threshold, 0.3."
        )

    def test_without_a_threshold_there_are_only_curves(self):
        axes = thresholds.overlap_curves(self.summary_of(None)).axes[0]
        assert [line.get_label() for line in axes.get_lines()] == ["Dice", "IoU"]
