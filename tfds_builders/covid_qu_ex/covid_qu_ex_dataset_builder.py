"""TFDS builder of COVID-QU-Ex (Tahir et al., 2021)."""

import dataclasses
import pathlib
from collections.abc import Iterator

import tensorflow_datasets as tfds

from tfds_builders import kaggle_download, raw_builder, raw_tree
from tfds_builders.covid_qu_ex import layout, pixels


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
    """A part of COVID-QU-Ex, named "infection" or "lung"."""


class Builder(raw_builder.RawBuilder):
    """COVID-QU-Ex, from Kaggle's zip or from its unpacked folder."""

    KAGGLE_DATASET = "anasmohammedtahir/covidqu"
    KAGGLE_VERSION = 7
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: dict[str, str] = {"1.0.0": "Version 7 of the Kaggle dataset."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        Config(name="infection", description="5,826 images with lung and infection masks."),
        Config(name="lung", description="33,920 images with lung masks."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Get COVID-QU-Ex from https://www.kaggle.com/datasets/{KAGGLE_DATASET} (version "
        f"{KAGGLE_VERSION}, 1.2 GB, free account) and put the zip, packed or unpacked, in this "
        "folder, or say where it is with raw_dir."
    )

    @classmethod
    def fetch(cls, folder: pathlib.Path) -> pathlib.Path:
        """Downloads from Kaggle; see `kaggle_download.download`."""
        return kaggle_download.download(cls.KAGGLE_DATASET, cls.KAGGLE_VERSION, folder)

    def _info(self) -> tfds.core.DatasetInfo:
        grey = raw_builder.GREY_PNG
        features = {
            "image": tfds.features.Image(**grey, doc="Brighter is denser."),
            "lung_mask": tfds.features.Image(**grey, doc="0 or 255."),
            "infection_mask": tfds.features.Image(**grey, doc="0 or 255; only COVID-19 has any."),
            "image_id": tfds.features.Text(doc="Published split, label and file stem; unique."),
            "label": tfds.features.ClassLabel(names=list(layout.LABELS)),
        }
        if self.builder_config.name == "lung":
            del features["infection_mask"]
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            homepage=f"https://www.kaggle.com/datasets/{self.KAGGLE_DATASET}",
            supervised_keys=("image", "lung_mask"),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict]]]:
        tree = raw_tree.find(self._place(dl_manager), layout.is_covid_qu_ex, layout.WANTED)
        samples = layout.find_samples(tree, self.builder_config.name)
        return {
            "train": self._generate_examples(tree, samples["Train"]),
            "validation": self._generate_examples(tree, samples["Val"]),
            "test": self._generate_examples(tree, samples["Test"]),
        }

    def _generate_examples(
        self, tree: raw_tree.RawTree, samples: list[layout.Sample]
    ) -> Iterator[tuple[str, dict]]:
        return raw_builder.load_in_order(
            samples, lambda sample: self._load(tree, sample), tree.where
        )

    def _load(self, tree: raw_tree.RawTree, sample: layout.Sample) -> dict:
        names = {"image_id": sample.image_id, "label": sample.label}
        example = names | pixels.load(tree, sample)
        return {name: example[name] for name in self.info.features}
