"""Finds the X-rays, masks and readings in a Shenzhen download.

The X-rays are published as `ChinaSet_AllFiles/CXR_png/*.png` beside `ClinicalReadings`. The lung
masks were published later and elsewhere, as `mask/mask/*_mask.png`. A bundle has both, in `CXR_png`
and `masks`.
"""

import collections
import re

from absl import logging

from tfds_builders import raw_tree, tuberculosis_cxr

WANTED_IMAGES = "the Shenzhen X-rays (a folder CXR_png with CHNCXR_*.png)"
WANTED_MASKS = "the Shenzhen lung masks (a folder mask with CHNCXR_*_mask.png)"
PUBLISHED_IMAGES = 662
PUBLISHED_MASKS = 566

_IMAGE = re.compile(r"(?:^|/)CXR_png/(?P<stem>CHNCXR_\d+_[01])\.png$", re.IGNORECASE)
# Other folders may have outlines of lesions.
_MASK = re.compile(r"(?:^|/)masks?/(?P<stem>CHNCXR_\d+_[01])_mask\.png$", re.IGNORECASE)
_READING = re.compile(r"(?:^|/)ClinicalReadings/(?P<stem>CHNCXR_\d+_[01])\.txt$", re.IGNORECASE)


def has_images(tree: raw_tree.RawTree) -> bool:
    """Tells whether the tree has any X-ray of the dataset."""
    return any(map(_IMAGE.search, tree.names))


def has_masks(tree: raw_tree.RawTree) -> bool:
    """Tells whether the tree has any lung mask of the dataset."""
    return any(map(_MASK.search, tree.names))


def find_samples(
    image_tree: raw_tree.RawTree, mask_tree: raw_tree.RawTree
) -> list[tuberculosis_cxr.Sample]:
    """Joins X-rays, masks and readings by file name; leaves out X-rays without a mask.

    Args:
        image_tree: tree with the X-rays and their readings.
        mask_tree: tree with the masks; may be the same tree.

    Returns:
        Samples ordered by file name. Every X-ray counts as a person of its own.

    Raises:
        ValueError: a mask without its X-ray, or one file twice.
    """
    images = tuberculosis_cxr.match_files(image_tree, _IMAGE)
    readings = tuberculosis_cxr.match_files(image_tree, _READING)
    masks = tuberculosis_cxr.match_files(mask_tree, _MASK)
    tuberculosis_cxr.require_images(masks, images, mask_tree.where)
    _report_counts(len(images), len(masks), image_tree.where)
    samples = [
        tuberculosis_cxr.Sample(
            image_id=stem,
            patient_id=stem.rsplit("_", 1)[0],
            image=images[stem],
            masks=(mask,),
            reading=readings.get(stem),
        )
        for stem, mask in sorted(masks.items())
    ]
    labels = collections.Counter(sample.label for sample in samples)
    logging.info("%s: %d X-rays with a mask, %s", image_tree.where, len(samples), dict(labels))
    return samples


def _report_counts(num_images: int, num_masks: int, where: str) -> None:
    if num_images > num_masks:
        logging.info(
            "%s: %d of %d X-rays have no lung mask and are left out.",
            where,
            num_images - num_masks,
            num_images,
        )
    if (num_images, num_masks) != (PUBLISHED_IMAGES, PUBLISHED_MASKS):
        logging.warning(
            "%s: %d X-rays and %d lung masks, unlike the published %d and %d.",
            where,
            num_images,
            num_masks,
            PUBLISHED_IMAGES,
            PUBLISHED_MASKS,
        )
