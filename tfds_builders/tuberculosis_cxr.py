"""The parts that the Montgomery and Shenzhen builders share: samples, features and sizes."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageChops

from tfds_builders import clinical_reading, png, raw_builder, raw_tree

HOMEPAGE = "https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/"
LABELS = ("normal", "tuberculosis")  # The last character of a file's stem is the index.


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
    """A size that X-rays are stored at.

    Attributes:
        longest_side: largest height or width in pixels; None keeps the published size.
    """

    longest_side: int | None = None


CONFIGS = [
    Config(name="512", longest_side=512, description="At most 512 pixels high and wide."),
    Config(name="1024", longest_side=1024, description="At most 1024 pixels high and wide."),
    Config(name="native", description="As published, up to 4892 pixels high and wide."),
]


@dataclasses.dataclass(frozen=True)
class Sample:
    """Files of one X-ray.

    Attributes:
        image_id: stem of the image's file, "MCUCXR_0001_0"; unique over both datasets.
        patient_id: stem of the person's first image, without the label: "MCUCXR_0001".
        image: name of the image in the tree of images.
        masks: names in the tree of masks; their union is the lungs.
        reading: name of the clinical reading in the tree of images, or None.
    """

    image_id: str
    patient_id: str
    image: str
    masks: tuple[str, ...]
    reading: str | None

    @property
    def label(self) -> str:
        """Diagnosis, one of `LABELS`."""
        return LABELS[int(self.image_id[-1])]


def features() -> tfds.features.FeaturesDict:
    """Returns the features of an example."""
    grey = raw_builder.GREY_PNG
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(**grey, doc="Brighter is denser."),
            "lung_mask": tfds.features.Image(**grey, doc="0 or 255."),
            "image_id": tfds.features.Text(doc="File stem; unique."),
            "patient_id": tfds.features.Text(doc="Person; those of other datasets differ."),
            "label": tfds.features.ClassLabel(names=list(LABELS)),
            "native_height": tfds.features.Scalar(np.int32, doc="Pixels, as published."),
            "native_width": tfds.features.Scalar(np.int32, doc="Pixels, as published."),
            "sex": tfds.features.Text(doc="F, M, O, or empty where it is not said."),
            "age_years": tfds.features.Scalar(np.float32, doc="NaN where it is not said."),
            "reading": tfds.features.Text(doc="The radiologist's text, as published."),
        }
    )


def make_info(builder: tfds.core.GeneratorBasedBuilder) -> tfds.core.DatasetInfo:
    """Returns the features and the homepage of either builder."""
    return builder.dataset_info_from_configs(
        features=features(), homepage=HOMEPAGE, supervised_keys=("image", "lung_mask")
    )


def match_files(tree: raw_tree.RawTree, pattern: re.Pattern[str]) -> dict[str, str]:
    """Finds files by their path.

    A copy of the whole download inside itself, which one bundle has, is ignored.

    Args:
        tree: the download.
        pattern: regular expression searched in the names; its group "stem" is the image's stem.

    Returns:
        Stem of the image -> name of the file.

    Raises:
        ValueError: two files have the same stem.
    """
    found: dict[str, str] = {}
    for name in tree.names:
        if match := pattern.search(name):
            known = found.setdefault(match["stem"], name)
            shorter, longer = sorted((known, name), key=len)
            if name != known and not longer.endswith(f"/{shorter}"):
                raise ValueError(f"{tree.where}: the same file twice, {known} and {name}.")
            found[match["stem"]] = shorter
    return found


def require_images(masks: dict[str, str], images: dict[str, str], where: str) -> None:
    """Raises a ValueError that names a mask whose image is missing."""
    if orphans := sorted(masks.keys() - images.keys()):
        name = masks[orphans[0]]
        raise ValueError(f"{where}: {name} is a mask without an image ({len(orphans)} in all).")


def decode_masks(
    tree: raw_tree.RawTree, names: Sequence[str], size: tuple[int, int]
) -> list[Image.Image]:
    """Reads masks of an image of `size` (columns, rows): 255 where they are not 0.

    Raises:
        ValueError: see `png.decode_mask`.
    """
    return [png.decode_mask(tree, name, size, share=0) for name in names]


def make_example(
    sample: Sample,
    image: Image.Image,
    masks: Sequence[Image.Image],
    reading: bytes,
    longest_side: int | None,
) -> dict[str, object]:
    """Returns an example with the features of `features`.

    Args:
        sample: sample with the names.
        image: mode L, at the published size.
        masks: masks of 0 and 255, of the image's size; the lungs are their union.
        reading: content of the clinical reading, or b"".
        longest_side: largest height or width to store, pixels; images are never enlarged.
    """
    lungs = masks[0]
    for mask in masks[1:]:
        lungs = ImageChops.lighter(lungs, mask)
    said = clinical_reading.parse(reading)
    return {
        "image": png.encode(png.shrink(image, longest_side)),
        "lung_mask": png.encode(png.shrink_mask(lungs, longest_side)),
        "image_id": sample.image_id,
        "patient_id": sample.patient_id,
        "label": sample.label,
        "native_height": image.height,
        "native_width": image.width,
        "sex": said.sex,
        "age_years": said.age_years,
        "reading": said.text,
    }
