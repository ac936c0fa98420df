"""TFDS builder of V7 Labs' COVID-19 X-ray dataset (2020)."""

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import raw_builder, raw_tree, url_download
from tfds_builders.v7_covid_cxr import layout, pixels, sources, tags


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
    """A size that images are stored at.

    Attributes:
        longest_side: largest height or width in pixels; None keeps images as they are.
    """

    longest_side: int | None = None


def _scaled_to(longest_side: int) -> Config:
    return Config(
        name=str(longest_side),
        description=f"Longest side at most {longest_side} pixels.",
        longest_side=longest_side,
    )


class Builder(raw_builder.RawBuilder):
    """Frontal X-rays with lungs, with the annotations of a Darwin download or of GitHub."""

    ANNOTATIONS_URL = (
        "https://raw.githubusercontent.com/v7labs/covid-19-xray-dataset/master/"
        "annotations/all-images.zip"
    )
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: dict[str, str] = {"1.0.0": "Release all-images of June 2020."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        *map(_scaled_to, (256, 512, 1024)),
        Config(name="native", description="Images as they are, up to 5623 x 4757 pixels."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Run 'pip install darwin-py', 'darwin authenticate' (free account at darwin.v7labs.com) "
        "and 'darwin dataset pull v7-labs/covid-19-chest-x-ray-dataset:all-images', and put the "
        "pulled folder (images and releases) in this folder, or say where it is with raw_dir."
    )

    @classmethod
    def fetch(cls, folder: pathlib.Path) -> pathlib.Path:
        """Downloads the annotations, but not the images, which need an account.

        Args:
            folder: folder of downloads; a folder of the builder's name is made in it.

        Returns:
            Path of the made folder for `raw_dir`, if images are already there.

        Raises:
            ValueError: the annotations can't be downloaded, or there are no images yet; says how to
                get them and where to put them.
            OSError: the annotations can't be written.
        """
        place = pathlib.Path(folder).expanduser() / cls.name
        url_download.download(cls.ANNOTATIONS_URL, place / "annotations" / "all-images.zip")
        if not sources.image_names(sources.open_tree(place)):
            raise ValueError(
                f"{place}: the annotations are there, the images can't be downloaded: "
                f"{sources.IMAGES_FROM}, and put them into {place / 'images'}."
            )
        return place

    def _info(self) -> tfds.core.DatasetInfo:
        grey = raw_builder.GREY_PNG
        text, scalar = tfds.features.Text, tfds.features.Scalar
        features = {
            "image": tfds.features.Image(**grey, doc="Brighter is denser."),
            "lung_mask": tfds.features.Image(**grey, doc="0 or 255."),
            "image_id": text(doc="Darwin's number, or the annotation file's stem; unique."),
            "patient_id": text(doc="Never empty; unknown patients have one image each."),
            "label": tfds.features.ClassLabel(names=list(tags.LABELS)),
            "finding": text(doc="Diseases joined by ', '; empty if not known."),
            "view": text(doc="PA, AP, AP Supine, ...; empty if not known."),
            "sex": text(doc="M or F; empty if not known."),
            "age_years": scalar(np.float32, doc="NaN if not known."),
            "native_height": scalar(np.int32, doc="Pixels of the annotated original."),
            "native_width": scalar(np.int32, doc="Pixels of the annotated original."),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            homepage="https://github.com/v7labs/covid-19-xray-dataset",
            supervised_keys=("image", "lung_mask"),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict]]]:
        tree = sources.open_tree(self._place(dl_manager))
        return {"full": self._generate_examples(tree, layout.find_samples(tree))}

    def _generate_examples(
        self, tree: raw_tree.RawTree, samples: list[layout.Sample]
    ) -> Iterator[tuple[str, dict]]:
        return raw_builder.load_in_order(
            samples, lambda sample: self._load(tree, sample), tree.where
        )

    def _load(self, tree: raw_tree.RawTree, sample: layout.Sample) -> dict:
        facts = sample.facts
        return pixels.load(tree, sample, self.builder_config.longest_side) | {
            "image_id": sample.annotation.image_id,
            "patient_id": sample.patient_id,
            "label": facts.label,
            "finding": facts.finding,
            "view": facts.view,
            "sex": facts.sex,
            "age_years": facts.age_years,
        }
