"""TFDS builder of COVID-QU-Ex (Tahir et al., 2021)."""

import concurrent.futures
import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from jaxlung import progress
from tfds_builders import raw_tree
from tfds_builders.covid_qu_ex import layout, pixels

_CHUNK = 128  # Samples decoded ahead of the writer: a few dozen megabytes at most.


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
    """A part of COVID-QU-Ex, named "infection" or "lung"."""


class Builder(tfds.core.GeneratorBasedBuilder):
    """COVID-QU-Ex, from the zip that Kaggle gives or from its unpacked folder.

    `Builder(config="infection", data_dir=..., raw_dir=..., file_format="array_record")`, then
    `download_and_prepare(file_format="array_record")` and `as_data_source("train")`.
    """

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

    def __init__(self, *, raw_dir: str | None = None, **kwargs: object) -> None:
        """Opens the builder.

        Args:
            raw_dir: the zip or the unpacked folder; None looks in TFDS's manual folder.
            **kwargs: of every TFDS builder: config, data_dir, file_format.
        """
        self._raw_dir = raw_dir
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        gray = {"shape": (None, None, 1), "dtype": np.uint8, "encoding_format": "png"}
        features = {
            "image": tfds.features.Image(**gray, doc="Brighter is denser."),
            "lung_mask": tfds.features.Image(**gray, doc="0 or 255."),
            "infection_mask": tfds.features.Image(**gray, doc="0 or 255; only COVID-19 has any."),
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
        place = self._raw_dir or _manual_dir(dl_manager)
        tree = raw_tree.find(place, layout.is_covid_qu_ex, layout.WANTED)
        samples = layout.find_samples(tree, self.builder_config.name)
        return {
            "train": self._generate_examples(tree, samples["Train"]),
            "validation": self._generate_examples(tree, samples["Val"]),
            "test": self._generate_examples(tree, samples["Test"]),
        }

    def _generate_examples(
        self, tree: raw_tree.RawTree, samples: list[layout.Sample]
    ) -> Iterator[tuple[str, dict]]:
        examples = self._load_in_order(tree, samples)
        return progress.report(examples, f"reading {tree.where}", "images", len(samples))

    def _load_in_order(
        self, tree: raw_tree.RawTree, samples: list[layout.Sample]
    ) -> Iterator[tuple[str, dict]]:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for start in range(0, len(samples), _CHUNK):
                chunk = samples[start : start + _CHUNK]
                planes = pool.map(lambda sample: pixels.load(tree, sample), chunk)
                for sample, pngs in zip(chunk, planes, strict=True):
                    yield sample.image_id, self._example(sample, pngs)

    def _example(self, sample: layout.Sample, pngs: dict[str, bytes]) -> dict:
        example = {**pngs, "image_id": sample.image_id, "label": sample.label}
        return {name: example[name] for name in self.info.features}


def _manual_dir(dl_manager: tfds.download.DownloadManager) -> epath.Path:
    try:
        return dl_manager.manual_dir
    except AssertionError as error:  # Absent or empty; the message has the instructions.
        raise ValueError(" ".join(str(error).split())) from error
