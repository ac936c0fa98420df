"""Slices are drawn true to mm, with outlines where the masks are."""

import io
import itertools

import numpy as np
import pytest
from absl.testing import parameterized
from etils import epath
from PIL import Image

from jaxlung.report import figures, panels, planes, volume_files
from tests.report import volume_run


class SubjectPlanesTest(parameterized.TestCase):
    def load(self, *image_ids):
        workdir = epath.Path(self.create_tempdir())
        np.savez(workdir / "planes_test.npz", **volume_run.make_planes(image_ids))
        return volume_files.load_subjects(workdir)

    def test_all_planes_of_a_volume_have_the_same_scale_in_mm(self):
        sizes = planes.find_sizes(self.load("a")[0])
        # Of 6 slices of 4 mm, 20 rows of 1.5 mm and 16 columns of 1 mm.
        mm = {"axial": (16, 30), "coronal": (16, 24), "sagittal": (30, 24)}
        ratios = np.array([np.array(sizes[name]) / mm[name] for name in mm])
        np.testing.assert_allclose(ratios, ratios[0, 0])
        assert max(max(size) for size in sizes.values()) == pytest.approx(planes.SIDE)

    def test_planes_lie_beside_each_other_with_their_images(self):
        figure = planes.subject_planes(self.load("a", "b"))
        images = figure.axes[0].get_images()
        assert [image.get_array()[0, 0] for image in images] == [7, 7, 7, 8, 8, 8]
        boxes = [image.get_extent() for image in images]
        for left, right in itertools.pairwise(boxes[:3]):
            assert left[1] < right[0]  # Beside,
            assert left[3] == right[3]  # with tops at one height,
        assert boxes[3][3] < min(box[2] for box in boxes[:3])  # and the next volume below.
        width, height = figure.get_size_inches()
        for left, right, bottom, top in boxes:
            assert 0 < left < right < width
            assert 0 < bottom < top < height

    def test_outlines_lie_around_the_masks(self):
        axes = planes.subject_planes(self.load("a")).axes[0]
        left, right, bottom, top = axes.get_images()[0].get_extent()
        target, pred = (each.get_paths()[0].vertices for each in axes.collections[:2])
        # Rows 2 and 3 of 20 from the top; columns 4 to 11 and 4 to 7 of 16.
        for outline, columns in ((target, (4, 12)), (pred, (4, 8))):
            x = (outline[:, 0] - left) / (right - left) * 16
            y = (top - outline[:, 1]) / (top - bottom) * 20
            np.testing.assert_allclose([x.min(), x.max()], columns, atol=0.01)
            np.testing.assert_allclose([y.min(), y.max()], [2, 4], atol=0.01)
        colors = [each.get_edgecolor()[0, :3] for each in axes.collections[:2]]
        want = [panels.ANNOTATION_COLOR, panels.PREDICTION_COLOR]
        hexed = ["#" + "".join(f"{round(255 * x):02x}" for x in color) for color in colors]
        assert hexed == want
        texts = [text.get_text() for text in axes.get_legend().get_texts()]
        assert texts == ["prediction", "annotation"]

    def test_rows_are_labelled_with_case_dice_and_slices(self):
        (subject,) = self.load("case_1")
        want = "case_1, Dice 0.250; slices: axial 3, coronal 3, sagittal 3"
        assert planes.describe_subject(subject) == want
        assert want in [text.get_text() for text in planes.subject_planes([subject]).axes[0].texts]

    @parameterized.parameters("a", "正常_$1^", "x" * 300)
    def test_the_size_depends_on_no_name(self, image_id):
        png = figures.to_png(planes.subject_planes(self.load(image_id)))
        width, height = Image.open(io.BytesIO(png)).size
        assert 1400 < width < 1700
        assert 400 < height < 800
