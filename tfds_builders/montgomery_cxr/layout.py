"""Finds the X-rays, masks and readings in a Montgomery download.

Published as `MontgomerySet/CXR_png/*.png` beside `ManualMask/leftMask`, `ManualMask/rightMask` and
`ClinicalReadings`, with the same file names. A bundle with the Shenzhen X-rays has one mask of both
lungs in a folder `masks`.
"""

import collections
import re

from absl import logging

from tfds_builders import raw_tree, tuberculosis_cxr

WANTED = "the Montgomery X-rays (a folder CXR_png with MCUCXR_*.png)"
PUBLISHED = {"normal": 80, "tuberculosis": 58}
# Number of an image -> number of the same person's first image, as the readings state.
SAME_PERSON = {"0117": "0113", "0166": "0162", "0170": "0162"}


def _pattern(folder: str, suffix: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|/){folder}/(?P<stem>MCUCXR_\d+_[01])\.{suffix}$", re.IGNORECASE)


_IMAGE = _pattern("CXR_png", "png")
_LEFT = _pattern("left_?mask", "png")
_RIGHT = _pattern("right_?mask", "png")
_JOINED = _pattern("masks", "png")
_READING = _pattern("ClinicalReadings", "txt")


def is_montgomery(tree: raw_tree.RawTree) -> bool:
    """Tells whether the tree has any image of the dataset."""
    return any(map(_IMAGE.search, tree.names))


def find_samples(tree: raw_tree.RawTree) -> list[tuberculosis_cxr.Sample]:
    """Joins images, masks and readings by file name, and warns of unexpected counts.

    Returns:
        Samples ordered by file name, with a mask of each lung or one mask of both.

    Raises:
        ValueError: an image without its masks, a mask without its image, or one file twice.
    """
    images, left, right, joined, readings = (
        tuberculosis_cxr.match_files(tree, kind)
        for kind in (_IMAGE, _LEFT, _RIGHT, _JOINED, _READING)
    )
    for found in (left, right, joined):
        tuberculosis_cxr.require_images(found, images, tree.where)
    samples = []
    for stem, image in sorted(images.items()):
        masks = tuple(side[stem] for side in (left, right) if stem in side)
        if not masks and stem in joined:
            masks = (joined[stem],)
        elif len(masks) < 2:
            lacking = "lung mask" if not masks else "left mask" if stem in right else "right mask"
            raise ValueError(f"{tree.where}: {image} has no {lacking}.")
        samples.append(
            tuberculosis_cxr.Sample(stem, _person(stem), image, masks, readings.get(stem))
        )
    _report_counts(samples, tree.where)
    return samples


def _person(stem: str) -> str:
    prefix, number, _ = stem.split("_")
    return f"{prefix}_{SAME_PERSON.get(number, number)}"


def _report_counts(samples: list[tuberculosis_cxr.Sample], where: str) -> None:
    labels = collections.Counter(sample.label for sample in samples)
    logging.info("%s: %d X-rays, %s", where, len(samples), dict(labels))
    if labels != PUBLISHED:
        total = sum(PUBLISHED.values())
        logging.warning("%s: %d X-rays, unlike the published %d.", where, len(samples), total)
