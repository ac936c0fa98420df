"""TFDS builder of the Shenzhen X-rays (Jaeger et al., 2014; masks of Stirenko et al., 2018)."""

import pathlib
import shutil
import zipfile
from collections.abc import Iterator

import tensorflow_datasets as tfds

from tfds_builders import (
    kaggle_download,
    png,
    raw_builder,
    raw_tree,
    tuberculosis_cxr,
    url_download,
)
from tfds_builders.shenzhen_cxr import layout


class Builder(raw_builder.RawBuilder):
    """Shenzhen X-rays with lung masks, from two downloads, each packed or unpacked."""

    URL = "https://openi.nlm.nih.gov/imgs/collections/ChinaSet_AllFiles.zip"
    KAGGLE_DATASET = "yoctoman/shcxr-lung-mask"
    KAGGLE_VERSION = 1
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: dict[str, str] = {  # noqa: RUF012
        "1.0.0": "The X-rays of 2014 with version 1 of the masks."
    }
    BUILDER_CONFIGS = tuberculosis_cxr.CONFIGS
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Get the Shenzhen X-rays from {URL} (3.8 GB) and their lung masks from "
        f"https://www.kaggle.com/datasets/{KAGGLE_DATASET} (free account), and put both zips, "
        "packed or unpacked, in this folder, or say where they are with raw_dir."
    )

    @classmethod
    def fetch(cls, folder: pathlib.Path) -> pathlib.Path:
        """Downloads X-rays and masks into `folder`, and returns it for `raw_dir`.

        Raises:
            ValueError, OSError: see `url_download.download` and `kaggle_download.download`.
        """
        # The masks first: a package or account may be missing, and the X-rays take long.
        masks = kaggle_download.download(cls.KAGGLE_DATASET, cls.KAGGLE_VERSION, folder)
        if masks != folder:  # In kagglehub's cache, away from the X-rays.
            shutil.copytree(masks, folder / "shcxr-lung-mask", dirs_exist_ok=True)
        path = folder / "ChinaSet_AllFiles.zip"
        url_download.download(cls.URL, path)
        if not zipfile.is_zipfile(path):  # Its checksum was never published.
            raise ValueError(f"{path}: want a zip, {cls.URL} gave something else; remove it first.")
        return folder

    def _info(self) -> tfds.core.DatasetInfo:
        return tuberculosis_cxr.make_info(self)

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict]]]:
        place = self._place(dl_manager)
        image_tree = raw_tree.find(place, layout.has_images, layout.WANTED_IMAGES)
        mask_tree = raw_tree.find(place, layout.has_masks, layout.WANTED_MASKS)
        samples = layout.find_samples(image_tree, mask_tree)
        return {"full": self._generate_examples(image_tree, mask_tree, samples)}

    def _generate_examples(
        self,
        image_tree: raw_tree.RawTree,
        mask_tree: raw_tree.RawTree,
        samples: list[tuberculosis_cxr.Sample],
    ) -> Iterator[tuple[str, dict]]:
        def load(sample: tuberculosis_cxr.Sample) -> dict:
            image = png.decode(image_tree, sample.image)
            masks = tuberculosis_cxr.decode_masks(mask_tree, sample.masks, image.size)
            reading = image_tree.read(sample.reading) if sample.reading else b""
            longest_side = self.builder_config.longest_side
            return tuberculosis_cxr.make_example(sample, image, masks, reading, longest_side)

        return raw_builder.load_in_order(samples, load, image_tree.where)
