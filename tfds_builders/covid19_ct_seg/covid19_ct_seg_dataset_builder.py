"""TFDS builder of COVID-19-CT-Seg (Ma et al., 2021): chest CTs with lungs and infection."""

import pathlib
from collections.abc import Iterator

import tensorflow_datasets as tfds

from jaxlung.host import progress
from tfds_builders import raw_builder, raw_tree, url_download
from tfds_builders.covid19_ct_seg import case, layout


class Builder(raw_builder.RawBuilder):
    """Chest CTs of patients with COVID-19, from Zenodo or Kaggle, packed or not."""

    URL = "https://zenodo.org/records/3757476/files/{name}.zip?download=1"
    SHA256: dict[str, str] = {  # noqa: RUF012
        "COVID-19-CT-Seg_20cases": (
            "a5060480eff9315b069b086312dac4872777901fb80d268a5a83edd9f4e7b440"
        ),
        "Lung_Mask": "f060b0d0299939a6d95ddefdbfa281de1a779c4d230a5adbd32414711d6d8187",
        "Infection_Mask": "87901c73fdd2230260e61d2dbc57bf56026efc28264006b8ea2bf411453c1694",
        "Lung_and_Infection_Mask": (
            "34f5a573cb8fb53cb15abe81868395d9addf436854826a6fd6e70c2b294f19c3"
        ),
    }
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: dict[str, str] = {"1.0.0": "Version 1.0 of the data."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name="native", description="Every voxel, as published.")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Get the four zips of COVID-19-CT-Seg from https://zenodo.org/records/3757476 (1 GB), or "
        "the one of https://www.kaggle.com/datasets/andrewmvd/covid19-ct-scans, and put them, "
        "packed or unpacked into folders of their names, in this folder, or say where they are "
        "with raw_dir."
    )

    @classmethod
    def fetch(cls, folder: pathlib.Path) -> pathlib.Path:
        """Downloads Zenodo's zips into `folder`, and returns it for `raw_dir`.

        Raises:
            ValueError, OSError: see `url_download.download`.
        """
        for name, sha256 in cls.SHA256.items():
            url_download.download(cls.URL.format(name=name), folder / f"{name}.zip", sha256)
        return folder

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=case.features(),
            homepage="https://zenodo.org/records/3757476",
            supervised_keys=("ct", "infection_mask"),
            disable_shuffling=True,  # Twenty volumes are kept in the order of their names.
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict]]]:
        tree = layout.open_tree(self._place(dl_manager))
        return {"full": self._generate_examples(tree, layout.find_samples(tree))}

    def _generate_examples(
        self, tree: raw_tree.RawTree, samples: list[layout.Sample]
    ) -> Iterator[tuple[str, dict]]:
        # One volume at a time, as they take up to 160 MB each.
        examples = ((sample.case_id, case.make_example(tree, sample)) for sample in samples)
        return progress.report(examples, f"reading {tree.where}", "volumes", len(samples))
