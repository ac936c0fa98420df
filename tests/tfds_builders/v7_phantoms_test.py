"""Tests that phantoms of V7's dataset resemble the real tree and show their diagnosis."""

import io
import json
import pathlib
import shutil

import numpy as np
import pytest
from absl.testing import absltest, parameterized
from PIL import Image

from tfds_builders import raw_tree
from tfds_builders.phantoms import v7_covid_cxr

_ANNOTATIONS = "releases/all-images/annotations"


class PhantomTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        made = pathlib.Path(absltest.get_default_test_tmpdir()) / "v7_phantoms_test"
        shutil.rmtree(made, ignore_errors=True)
        cls.raw = v7_covid_cxr.write(made / "raw", 40, image_size=32)

    def setUp(self):
        super().setUp()
        self.tmp = pathlib.Path(self.create_tempdir().full_path)

    def test_same_seed_same_tree_and_no_half_trees(self):
        again = v7_covid_cxr.write(self.tmp / "again", 40, image_size=32)
        files = [path for path in self.raw.rglob("*") if path.is_file()]
        for path in files:
            assert (again / path.relative_to(self.raw)).read_bytes() == path.read_bytes()
        with pytest.raises(ValueError, match="found something else"):
            v7_covid_cxr.write(again, 40, image_size=32, seed=1)
        with pytest.raises(ValueError, match="want at least 20, got 19"):
            v7_covid_cxr.write(self.tmp / "few", 19)

    @parameterized.parameters((40, 6), (41, 6), (100, 15), (20, 3))
    def test_enough_covid_to_split(self, num_images, want):
        assert v7_covid_cxr.num_covid(num_images) == want

    def test_has_the_oddities_of_the_real_tree(self):
        images = list((self.raw / "images").iterdir())
        assert {".jpg", ".png", ".jpeg", ".PNG", ".JPG"} <= {path.suffix for path in images}
        pixels = [path.read_bytes() for path in images if path.suffix != ".db"]
        modes = {Image.open(io.BytesIO(file)).mode for file in pixels}
        assert modes == {"L", "RGB"}
        texts = [path.read_bytes() for path in (self.raw / _ANNOTATIONS).glob("*.json")]
        contents = [json.loads(text.decode(errors="replace")) for text in texts]
        items = [item for content in contents for item in content["annotations"]]
        kinds = {(item["name"], kind) for item in items for kind in item if "polygon" in kind}
        assert kinds == {("Lung", "polygon"), ("Ignore", "polygon"), ("Ignore", "complex_polygon")}
        assert sum(b"\xe1rio" in text for text in texts) == 1
        found = raw_tree.open_folder_and_zips(self.raw).names
        assert f"{_ANNOTATIONS}/.v7/metadata.json" in found

    def test_covid_shows_in_the_lungs(self):
        for seed in range(10):
            xray = v7_covid_cxr._draw(np.random.default_rng(seed), 64, "infection")
            free = xray.lung_mask & ~xray.infection_mask
            contrast = xray.image[xray.infection_mask].mean() - xray.image[free].mean()
            assert contrast >= 25  # Of 255 grey levels.


if __name__ == "__main__":
    absltest.main()
