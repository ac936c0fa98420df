"""Tests of Kaggle downloads, with fake modules in place of Kaggle's."""

import pathlib
import sys
import types
from unittest import mock

import pytest
from absl.testing import absltest

from tfds_builders import kaggle_download

_DATASET = "anasmohammedtahir/covidqu"


class DownloadTest(absltest.TestCase):
    def test_asks_kagglehub_for_the_wanted_version(self):
        hub = types.ModuleType("kagglehub")
        hub.dataset_download = mock.Mock(return_value="/cache/covidqu/versions/7")
        with mock.patch.dict(sys.modules, kagglehub=hub):
            folder = kaggle_download.download(_DATASET, 7, pathlib.Path("unused"))
        hub.dataset_download.assert_called_once_with("anasmohammedtahir/covidqu/versions/7")
        assert folder == pathlib.Path("/cache/covidqu/versions/7")

    def test_falls_back_to_kaggle_which_leaves_the_zip_in_the_folder(self):
        kaggle = types.ModuleType("kaggle")
        kaggle.api = mock.Mock()
        wanted = pathlib.Path(self.create_tempdir().full_path) / "manual"
        with mock.patch.dict(sys.modules, kagglehub=None, kaggle=kaggle):
            folder = kaggle_download.download(_DATASET, 7, wanted)
        kaggle.api.dataset_download_files.assert_called_once_with(
            _DATASET, path=str(wanted), unzip=False
        )
        assert folder == wanted
        assert wanted.is_dir()

    def test_names_the_package_to_install_if_there_is_none(self):
        with (
            mock.patch.dict(sys.modules, kagglehub=None, kaggle=None),
            pytest.raises(ValueError, match="pip install kagglehub"),
        ):
            kaggle_download.download(_DATASET, 7, pathlib.Path("unused"))


if __name__ == "__main__":
    absltest.main()
