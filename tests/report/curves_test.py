"""Curves of training show their columns, and where the learning rate changed."""

import io

import numpy as np
from absl.testing import parameterized
from PIL import Image

from jaxlung.report import curves, figures


def metrics_of(loss, floor=0.0, rates=None, **score):
    loss = np.array(loss)
    return {
        "epoch": np.arange(1.0, len(loss) + 1),
        "loss": loss,
        "loss_excess": loss - floor,
        "val_loss": loss + 0.1,
        "val_loss_excess": loss + 0.1 - floor,
        "learning_rate": np.full(len(loss), 0.1) if rates is None else np.array(rates),
    } | {name: np.array(values) for name, values in score.items()}


class TrainingCurvesTest(parameterized.TestCase):
    def test_soft_targets_get_a_plot_above_the_floor(self):
        figure = curves.training_curves(metrics_of([0.5, 0.3, 0.2], floor=0.1))
        lines = [axes.get_lines()[0].get_ydata() for axes in figure.axes]
        np.testing.assert_allclose(lines, [[0.5, 0.3, 0.2], [0.4, 0.2, 0.1]])

    def test_the_score_has_a_plot(self):
        metrics = metrics_of(
            [0.5, 0.3], mean_iou=[0.6, 0.7], val_mean_iou=[0.5, 0.55], seconds=[1, 1]
        )
        loss, score = curves.training_curves(metrics, "1 - soft IoU").axes
        assert loss.get_title(loc="left") == "Loss: 1 - soft IoU"
        assert score.get_title(loc="left") == "Mean IoU"
        shown = [line.get_ydata() for line in score.get_lines()]
        np.testing.assert_allclose(shown, [[0.6, 0.7], [0.5, 0.55]])

    def test_new_learning_rates_are_marked_before_their_epochs(self):
        metrics = metrics_of(
            np.linspace(1, 0.5, 5),
            rates=[0.4, 0.4, 0.2, 0.2, 0.1],
            dice=np.ones(5),
            val_dice=np.ones(5),
        )
        assert curves.find_rate_changes(metrics) == [(3.0, 0.2), (5.0, 0.1)]
        for axes in curves.training_curves(metrics).axes:
            marks = [line.get_xdata()[0] for line in axes.get_lines()[2:]]
            assert marks == [2.5, 4.5]
        assert [text.get_text() for text in axes.texts] == ["rate 0.2", "rate 0.1"]

    def test_a_schedule_is_not_marked_at_every_epoch(self):
        metrics = metrics_of(np.ones(50), rates=np.linspace(1, 0.1, 50))
        (axes,) = curves.training_curves(metrics).axes
        assert len(axes.get_lines()) == 2

    def test_a_constant_or_unknown_rate_has_no_mark(self):
        assert curves.find_rate_changes(metrics_of([0.5, 0.4])) == []
        assert curves.find_rate_changes(metrics_of([0.5, 0.4], rates=[np.nan, np.nan])) == []

    @parameterized.parameters([[0.5]], [[np.nan, 0.5]], [[0.5, 0.5]], [[900.0, 0.001]], [[np.nan]])
    def test_odd_losses_are_drawn(self, loss):
        png = figures.to_png(curves.training_curves(metrics_of(loss), theme=figures.DARK))
        width, height = Image.open(io.BytesIO(png)).size
        assert 1000 < width < 2000
        assert 300 < height < 1000
