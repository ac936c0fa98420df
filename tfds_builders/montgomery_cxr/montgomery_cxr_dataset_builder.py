"""TFDS builder of the Montgomery County X-rays (Jaeger et al., 2014)."""

import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from tfds_builders import png, raw_builder, raw_tree, tuberculosis_cxr, url_download
from tfds_builders.montgomery_cxr import layout


class Builder(raw_builder.RawBuilder):
    """Montgomery County X-rays, from the published zip or from unpacked folders."""

    URL = "https://openi.nlm.nih.gov/imgs/collections/NLM-MontgomeryCXRSet.zip"
    SHA256 = "54601e952315d8f67383e9202a6e145997ade429f54f7e0af44b4e158714f424"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: dict[str, str] = {"1.0.0": "The 138 X-rays of 2014."}  # noqa: RUF012
    BUILDER_CONFIGS = tuberculosis_cxr.CONFIGS
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Get the Montgomery X-rays from {URL} (0.6 GB), or the folder MontgomerySet from "
        f"{tuberculosis_cxr.HOMEPAGE}, and put the "
        "zip, packed or unpacked, in this folder, or say where it is with raw_dir."
    )

    @classmethod
    def fetch(cls, folder: pathlib.Path) -> pathlib.Path:
        """Downloads the zip into `folder`, unless it is there, and returns its path for `raw_dir`.

        Raises:
            ValueError, OSError: see `url_download.download`.
        """
        path = folder / "NLM-MontgomeryCXRSet.zip"
        url_download.download(cls.URL, path, cls.SHA256)
        return path

    def _info(self) -> tfds.core.DatasetInfo:
        return tuberculosis_cxr.make_info(self)

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict]]]:
        tree = raw_tree.find(self._place(dl_manager), layout.is_montgomery, layout.WANTED)
        return {"full": self._generate_examples(tree, layout.find_samples(tree))}

    def _generate_examples(
        self, tree: raw_tree.RawTree, samples: list[tuberculosis_cxr.Sample]
    ) -> Iterator[tuple[str, dict]]:
        swapped = []

        def load(sample: tuberculosis_cxr.Sample) -> dict:
            image = png.decode(tree, sample.image)
            masks = tuberculosis_cxr.decode_masks(tree, sample.masks, image.size)
            if _are_swapped(masks):
                swapped.append(sample.masks[0])
            reading = tree.read(sample.reading) if sample.reading else b""
            longest_side = self.builder_config.longest_side
            return tuberculosis_cxr.make_example(sample, image, masks, reading, longest_side)

        yield from raw_builder.load_in_order(samples, load, tree.where)
        if swapped:
            logging.warning(
                "%s: %d of %d left masks lie to the right of the right mask, first %s; both count "
                "as lung.",
                tree.where,
                len(swapped),
                len(samples),
                min(swapped),
            )


def _are_swapped(masks: list[Image.Image]) -> bool:
    """Tells whether the mask called left, meaning the image's left, lies on the image's right."""
    if len(masks) < 2 or not all(mask.getbbox() for mask in masks):
        return False
    left, right = (
        np.average(np.arange(mask.width), weights=np.count_nonzero(np.asarray(mask), axis=0))
        for mask in masks
    )
    return bool(left > right)
