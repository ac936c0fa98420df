"""Tests that phantoms resemble real X-rays and are equal for equal seeds."""

import io
import pathlib

import numpy as np
import pytest
from absl.testing import absltest, parameterized
from PIL import Image
from scipy import ndimage

from tfds_builders.phantoms import chest_xray, covid_qu_ex


def _make(finding, seed=0, size=64):
    return chest_xray.make(np.random.default_rng(seed), size, finding)


def _best_threshold_dice(images, masks):
    """Dice of the best single grey level, above or below it, over all pixels; brute force."""
    scores = [0.0]
    for level in range(0, 256, 4):
        for preds in (images > level, images <= level):
            scores.append(2 * np.sum(preds & masks) / (np.sum(preds) + np.sum(masks)))
    return max(scores)


def _tree(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


class ChestXrayTest(parameterized.TestCase):
    @parameterized.product(finding=chest_xray.FINDINGS, size=[16, 33, 64])
    def test_shapes_and_dtypes(self, finding, size):
        xray = _make(finding, size=size)
        assert xray.image.dtype == np.uint8
        for mask in (xray.lung_mask, xray.infection_mask):
            assert mask.dtype == np.bool_
            assert mask.shape == (size, size)
        assert xray.image.shape == (size, size)

    def test_same_seed_same_phantom_and_another_seed_another(self):
        np.testing.assert_array_equal(_make("infection", 3).image, _make("infection", 3).image)
        assert np.any(_make("infection", 3).image != _make("infection", 4).image)

    @parameterized.parameters(*range(8))
    def test_two_lungs_of_plausible_size_beside_the_midline(self, seed):
        mask = _make("none", seed, 128).lung_mask
        regions, _ = ndimage.label(mask)
        areas = np.sort(np.bincount(regions.ravel())[1:])[::-1]
        # A sliver may be cut off by the heart; two regions hold nearly all.
        assert areas[:2].sum() > 0.97 * areas.sum()
        self.assertBetween(mask.mean(), 0.12, 0.5)
        assert areas[1] > 0.3 * areas[0]

    @parameterized.parameters(*range(8))
    def test_only_infection_is_labelled_and_lies_in_the_lungs(self, seed):
        infected = _make("infection", seed)
        assert infected.infection_mask.any()
        assert not np.any(infected.infection_mask & ~infected.lung_mask)
        for finding in ("lobar", "none"):
            assert not _make(finding, seed).infection_mask.any()

    def test_infection_brightens_the_lung(self):
        contrasts = []
        for seed in range(24):
            x = _make("infection", seed)
            healthy = x.lung_mask & ~x.infection_mask
            contrasts.append(x.image[x.infection_mask].mean() - x.image[healthy].mean())
        assert np.mean(contrasts) > 8  # Grey levels of 255.

    def test_no_grey_level_finds_lungs_or_infection(self):
        xrays = [_make(chest_xray.FINDINGS[seed % 3], seed) for seed in range(36)]
        images = np.stack([x.image for x in xrays])
        assert _best_threshold_dice(images, np.stack([x.lung_mask for x in xrays])) < 0.75
        infections = np.stack([x.infection_mask for x in xrays[::3]])
        assert _best_threshold_dice(images[::3], infections) < 0.3

    def test_names_the_findings_there_are(self):
        with pytest.raises(ValueError, match="infection, lobar, none, got 'flu'"):
            _make("flu")

    def test_refuses_images_too_small_for_a_thorax(self):
        with pytest.raises(ValueError, match="at least 16 pixels, got 8"):
            _make("none", size=8)


class WriteTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path) / "raw"

    def test_published_shares_of_splits_and_labels(self):
        counts = covid_qu_ex.counts(400)
        assert [counts["Train", x] for x in covid_qu_ex.NAMES] == [128, 64, 64]
        assert [counts["Val", x] for x in covid_qu_ex.NAMES] == [32, 16, 16]
        assert [counts["Test", x] for x in covid_qu_ex.NAMES] == [40, 20, 20]

    def test_real_layout_with_its_oddities(self):
        covid_qu_ex.write(self.root, 20, image_size=16)
        data = self.root / "Infection Segmentation Data" / "Infection Segmentation Data"
        for (split, label), count in covid_qu_ex.counts(20).items():
            images = {p.name for p in (data / split / label / "images").glob("*.png")}
            masks = {p.name for p in (data / split / label / "lung masks").glob("*.png")}
            self.assertLen(images, count)
            assert images == masks
        assert (data / "Train/COVID-19/images/covid_1.png").is_file()
        assert (data / "Train/Non-COVID/images/non_COVID (1).png").is_file()
        assert not (data / "Train/Normal/infection masks").exists()
        self.assertNotEmpty(list(data.rglob("Thumbs.db")))
        modes = {Image.open(io.BytesIO(p.read_bytes())).mode for p in data.rglob("images/*.png")}
        assert modes == {"L", "RGB"}

    def test_same_arguments_same_bytes(self):
        other = self.root.with_name("other")
        covid_qu_ex.write(self.root, 20, image_size=16, seed=5)
        covid_qu_ex.write(other, 20, image_size=16, seed=5)
        assert _tree(self.root) == _tree(other)

    def test_another_seed_gives_other_images(self):
        other = self.root.with_name("other")
        covid_qu_ex.write(self.root, 20, image_size=16, seed=5)
        covid_qu_ex.write(other, 20, image_size=16, seed=6)
        one, two = (
            {name: png for name, png in _tree(root).items() if "/images/" in name}
            for root in (self.root, other)
        )
        images = [name for name in one if name.endswith(".png")]
        self.assertEmpty([name for name in images if one[name] == two[name]])

    def test_second_call_leaves_the_tree_alone(self):
        covid_qu_ex.write(self.root, 20, image_size=16)
        before = {p: p.stat().st_mtime_ns for p in self.root.rglob("*")}
        covid_qu_ex.write(self.root, 20, image_size=16)
        assert before == {p: p.stat().st_mtime_ns for p in self.root.rglob("*")}

    def test_other_arguments_do_not_pass_for_the_same_tree(self):
        covid_qu_ex.write(self.root, 20, image_size=16)
        with pytest.raises(ValueError, match="found something else"):
            covid_qu_ex.write(self.root, 20, image_size=16, seed=1)

    def test_a_failure_leaves_nothing_behind(self):
        with pytest.raises(ValueError, match="at least 16 pixels"):
            covid_qu_ex.write(self.root, 20, image_size=8)
        self.assertEmpty(list(self.root.parent.iterdir()))

    def test_refuses_too_few_images(self):
        with pytest.raises(ValueError, match="at least 20, got 3"):
            covid_qu_ex.write(self.root, 3)


if __name__ == "__main__":
    absltest.main()
