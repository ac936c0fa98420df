"""Figures are PNGs of a sensible size that show what they should, without warnings."""

import io

import numpy as np
from absl.testing import parameterized
from PIL import Image

from jaxlung.report import figures, panels, run_files


def metrics_of(loss, floor=0.0):
    loss = np.array(loss)
    return {
        "epoch": np.arange(1, len(loss) + 1),
        "loss": loss,
        "loss_excess": loss - floor,
        "val_loss": loss + 0.1,
        "val_loss_excess": loss + 0.1 - floor,
    }


def panels_of(num_images, height=24, width=32, image_id="a"):
    shape = (num_images, height, width)
    np_rng = np.random.default_rng(0)
    return run_files.Panels(
        image=np_rng.integers(0, 256, shape, np.uint8),
        raw=np_rng.random(shape, np.float32),
        pred=np_rng.choice(np.uint8([0, 125, 255]), shape),
        target=np.zeros(shape, np.uint8),
        kind=np.array(["best"] * num_images),
        image_id=np.array([image_id] * num_images),
        score=np.full(num_images, 0.5, np.float32),
        score_name=np.array("f1_macro"),
    )


def size_of(figure):
    image = Image.open(io.BytesIO(figures.to_png(figure)))
    image.verify()
    assert image.format == "PNG"
    return image.size


class LossCurvesTest(parameterized.TestCase):
    def test_soft_targets_get_a_second_plot_above_the_floor(self):
        figure = figures.loss_curves(metrics_of([0.5, 0.3, 0.2], floor=0.1))
        lines = [axes.get_lines()[0].get_ydata() for axes in figure.axes]
        np.testing.assert_allclose(lines, [[0.5, 0.3, 0.2], [0.4, 0.2, 0.1]])

    def test_binary_targets_get_one_plot(self):
        assert len(figures.loss_curves(metrics_of([0.5, 0.3])).axes) == 1

    @parameterized.parameters([[0.5]], [[np.nan, 0.5]], [[0.5, 0.5]], [[900.0, 0.001]], [[np.nan]])
    def test_odd_losses_are_drawn(self, loss):
        width, height = size_of(figures.loss_curves(metrics_of(loss), figures.DARK))
        assert 1000 < width < 2000
        assert 300 < height < 1000


class ScoreHistogramTest(parameterized.TestCase):
    def test_groups_stand_below_each_other_largest_first(self):
        values, groups = np.array([0.5, 0.8, 0.9, np.nan]), ["few", "many", "many", "few"]
        scores = run_files.ImageScores("dice", values, groups)
        figure = figures.score_histogram(scores)
        titles = [axes.get_title(loc="left") for axes in figure.axes]
        assert titles == ["many: 2 images, median 0.850", "few: 1 images, median 0.500"]
        assert size_of(figure)[0] > 1000

    @parameterized.parameters([[""] * 12], [[f"{i}" for i in range(12)]])
    def test_no_groups_or_too_many_make_one_plot(self, groups):
        scores = run_files.ImageScores("dice", np.ones(12), groups)
        assert list(figures.split_by_group(scores)) == ["all"]
        assert len(figures.score_histogram(scores).axes) == 1

    def test_group_names_in_other_scripts_are_drawn(self):
        scores = run_files.ImageScores("dice", np.array([0.1, 0.2]), ["正常", "$x$ \n"])
        size_of(figures.score_histogram(scores))


class ImagePanelsTest(parameterized.TestCase):
    @parameterized.parameters("a", "正常_$1^", "x" * 300)
    def test_the_size_depends_on_no_name(self, image_id):
        width, height = size_of(panels.image_panels(panels_of(1, image_id=image_id)))
        assert 1000 < width < 2000
        assert 200 < height < 500

    def test_every_image_is_a_row(self):
        one, three = (panels.image_panels(panels_of(n)).get_size_inches() for n in (1, 3))
        assert one[0] == three[0]
        assert 2 * one[1] < three[1] < 3 * one[1]

    def test_columns_hold_the_arrays(self):
        content = panels_of(1)
        figure = panels.image_panels(content)
        shown = [image.get_array() for image in figure.axes[0].get_images()]
        for got, name in zip(shown, ("image", "raw", "pred", "target", "image"), strict=True):
            np.testing.assert_array_equal(got, getattr(content, name)[0])

    def test_outlines_lie_on_the_image(self):
        content = panels_of(1)
        content.target[0, 4:12, 16:24] = 255
        axes = panels.image_panels(content).axes[0]
        outlines = axes.collections[0].get_paths()[0].vertices
        left, right, bottom, top = axes.get_images()[-1].get_extent()
        np.testing.assert_allclose(
            (outlines.min(axis=0) - (left, bottom)) / (right - left, top - bottom),
            (16 / 32, 12 / 24),
            atol=0.5 / 24,
        )
        np.testing.assert_allclose(
            (outlines.max(axis=0) - (left, bottom)) / (right - left, top - bottom),
            (24 / 32, 20 / 24),
            atol=0.5 / 24,
        )
