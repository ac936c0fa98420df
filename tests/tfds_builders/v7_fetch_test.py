"""Tests of downloading V7's dataset: annotations by URL, images by the user."""

import pathlib
import shutil
import sys
import zipfile
from unittest import mock

import pytest
from absl.testing import absltest

from tfds_builders import url_download
from tfds_builders.phantoms import v7_covid_cxr
from tfds_builders.v7_covid_cxr import layout, sources, v7_covid_cxr_dataset_builder


class FetchTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.tmp = pathlib.Path(self.create_tempdir().full_path)
        self.raw = v7_covid_cxr.write(self.tmp / "raw", 20, image_size=16)

    def fetch(self):
        def write_zip(url, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(path, "w") as archive:
                for file in self.raw.rglob("annotations/*.json"):
                    archive.write(file, file.name)

        with mock.patch.object(url_download, "download", write_zip):
            return v7_covid_cxr_dataset_builder.Builder.fetch(self.tmp / "downloads")

    def test_annotations_come_and_the_images_are_asked_for(self):
        with pytest.raises(ValueError, match="the images can't be downloaded") as caught:
            self.fetch()
        assert "\n" not in str(caught.value)
        place = self.tmp / "downloads" / "v7_covid_cxr" / "images"
        assert str(place) in str(caught.value)
        shutil.copytree(self.raw / "images", place)  # As the message says.
        self.assertLen(layout.find_samples(sources.open_tree(self.fetch())), 20)

    def test_asks_github(self):
        with (
            mock.patch.object(url_download, "download", side_effect=ValueError("no net")) as asked,
            pytest.raises(ValueError, match="no net"),
        ):
            v7_covid_cxr_dataset_builder.Builder.fetch(self.tmp)
        url, path = asked.call_args.args
        assert url.endswith("v7labs/covid-19-xray-dataset/master/annotations/all-images.zip")
        assert path == self.tmp / "v7_covid_cxr" / "annotations" / "all-images.zip"


class ImportTest(absltest.TestCase):
    def test_no_tensorflow(self):
        assert "tensorflow" not in sys.modules


if __name__ == "__main__":
    absltest.main()
