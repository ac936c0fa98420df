"""Figures are PNGs of a sensible size that show what they should, without warnings."""

import io

import numpy as np
from absl.testing import parameterized
from PIL import Image

from jaxlung.config import run_files
from jaxlung.report import figures, panels


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
    @parameterized.product(image_id=["a", "正常_$1^", "x" * 300], is_binary=[False, True])
    def test_the_size_depends_on_no_name(self, image_id, is_binary):
        figure = panels.image_panels(panels_of(1, image_id=image_id), is_binary=is_binary)
        width, height = size_of(figure)
        assert 1000 < width < 2000
        assert 200 < height < 500

    def test_every_image_is_a_row(self):
        one, three = (
            panels.image_panels(panels_of(n), is_binary=True).get_size_inches() for n in (1, 3)
        )
        assert one[0] == three[0]
        assert 2 * one[1] < three[1] < 3 * one[1]

    def test_columns_hold_the_arrays(self):
        content = panels_of(1)
        figure = panels.image_panels(content, is_binary=False)
        shown = [image.get_array() for image in figure.axes[0].get_images()]
        for got, name in zip(shown, ("image", "raw", "pred", "target", "image"), strict=True):
            np.testing.assert_array_equal(got, getattr(content, name)[0])

    def test_outlines_lie_on_the_image(self):
        content = panels_of(1)
        content.target[0, 4:12, 16:24] = 255
        axes = panels.image_panels(content, is_binary=False).axes[0]
        outlines = axes.collections[0].get_paths()[0].vertices
        left, right, bottom, top = axes.get_images()[-1].get_extent()
        for corner, want in (
            (outlines.min(axis=0), (16 / 32, 12 / 24)),
            (outlines.max(axis=0), (24 / 32, 20 / 24)),
        ):
            got = (corner - (left, bottom)) / (right - left, top - bottom)
            np.testing.assert_allclose(got, want, atol=0.5 / 24)

    def test_masks_end_with_their_difference_and_its_legend(self):
        content = panels_of(1)
        axes = panels.image_panels(content, is_binary=True).axes[0]
        want = panels.color_differences(content.image[0], content.pred[0], content.target[0])
        np.testing.assert_array_equal(axes.get_images()[-1].get_array(), want)
        texts = [text.get_text() for text in axes.get_legend().get_texts()]
        assert [text.split(":")[0] for text in texts] == [
            "true positive",
            "false positive",
            "false negative",
        ]


# sRGB as a person without red, green or blue cones sees it (Machado et al., 2009, severity 1).
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


class ColorDifferencesTest(parameterized.TestCase):
    def test_each_kind_of_pixel_has_its_color_over_the_image(self):
        image = np.uint8([[0, 100, 200, 255]])
        pred, target = np.uint8([[0, 255, 255, 0]]), np.uint8([[0, 255, 0, 255]])
        got = panels.color_differences(image, pred, target)[0]
        both, predicted, annotated = (
            np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
            for color in panels.DIFFERENCES.values()
        )
        a = panels.OPACITY
        np.testing.assert_allclose(
            got,
            [
                np.zeros(3),
                a * both + (1 - a) * 100 / 255,
                a * predicted + (1 - a) * 200 / 255,
                a * annotated + (1 - a),
            ],
        )

    @parameterized.product(kind=list(BLINDNESS), grey=[0, 90, 180])
    def test_the_color_blind_tell_them_apart(self, kind, grey):
        image = np.full((1, 4), grey, np.uint8)
        pred, target = np.uint8([[0, 255, 255, 0]]), np.uint8([[0, 255, 0, 255]])
        colors = panels.color_differences(image, pred, target)[0] @ np.array(BLINDNESS[kind]).T
        distances = np.linalg.norm(colors[:, None] - colors, axis=-1)
        assert distances[~np.eye(4, dtype=bool)].min() > 0.2
