"""Baselines that a network must beat.

For X-rays a brightness threshold and the average annotation, for CTs a band of Hounsfield units.
None looks at a pixel's neighbours. All are fitted to counts, so one pass over the training split
is enough, however large it is.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxlung.data import record
from jaxlung.data.transforms import resize
from jaxlung.evaluation import scores as scores_lib
from jaxlung.host import progress
from jaxlung.metrics import overlap
from jaxlung.tasks import task as task_lib
from jaxlung.training import system as system_lib
from jaxlung.volume import hounsfield

NUM_INTENSITIES = 256
STEP_HU = 16  # Width of a bin.
_EDGES = np.arange(hounsfield.LOWEST_HU, hounsfield.HIGHEST_HU + STEP_HU + 1, STEP_HU)
_NUM_BINS = len(_EDGES) - 1


@dataclasses.dataclass(frozen=True)
class Counts:
    """Counts of one pass over the training split.

    Attributes:
        histograms: [L, 256] int64, pixels of each true level by intensity after `min_max_uint8`.
        level_counts: [L, H, W] int64, images in which each pixel has each level.
    """

    histograms: np.ndarray
    level_counts: np.ndarray


@dataclasses.dataclass(frozen=True)
class ThresholdBaseline:
    """A baseline that gives each band of brightness a level.

    Attributes:
        table: [256] uint8, the level of each intensity after `min_max_uint8`.
        description: words for a reader: "lung below 96, outside above".
    """

    table: np.ndarray
    description: str

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Returns levels [..., H, W] uint8 of `images` [..., H, W] uint8, each scaled by itself."""
        return self.table[min_max_uint8(images)]


@dataclasses.dataclass(frozen=True)
class MeanMaskBaseline:
    """A baseline that predicts the same mask for every image.

    Attributes:
        levels: [H, W] uint8.
        description: words for a reader: "lung where at least 43 of 100 training images have it".
    """

    levels: np.ndarray
    description: str

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Returns the same levels [..., H, W] uint8 for each of `images` [..., H, W]."""
        return np.broadcast_to(self.levels, images.shape)


Baseline = ThresholdBaseline | MeanMaskBaseline


def score_image(
    task: task_lib.Task,
    baseline: Baseline,
    output: Mapping[str, np.ndarray],
    item: record.Record,
    how: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a baseline's confusion matrices of one image at the network's and at its own size.

    Args:
        task: task of the network.
        baseline: the baseline to score.
        output: "image" and "levels" [S, S] uint8 of `Step.evaluate`.
        item: the record itself.
        how: `resize` of the image to the network's size, to be undone.

    Returns:
        Two matrices [L, L] int64.
    """
    preds = baseline.predict(output["image"])
    # Labels, not brightness: a level of its own would appear where two others meet.
    one_hot = np.eye(len(task.levels), dtype=np.float32)[preds]
    height, width = item.image.shape
    own_preds = resize.unfit(one_hot, height, width, how).argmax(axis=-1)
    own_levels = task.true_levels(item.mask, item.label)
    return (
        overlap.confusion_of_one(output["levels"], preds, len(task.levels)),
        overlap.confusion_of_one(own_levels, own_preds, len(task.levels)),
    )


def min_max_uint8(images: np.ndarray) -> np.ndarray:
    """Stretches each image to 0..255, rounded; an image of one brightness becomes 0.

    Args:
        images: [..., H, W] uint8.

    Returns:
        [..., H, W] uint8.
    """
    low = images.min(axis=(-2, -1), keepdims=True)
    spread = np.maximum(images.max(axis=(-2, -1), keepdims=True) - low, 1)
    return np.rint((images - low) * (np.float32(255) / spread)).astype(np.uint8)


def count(pairs: Iterable[tuple[np.ndarray, np.ndarray]], num_levels: int) -> Counts:
    """Counts intensities and levels over a stream of annotated images.

    Args:
        pairs: `image` [H, W] uint8 and `levels` [H, W] uint8 below `num_levels`; one size for all.
        num_levels: L.

    Raises:
        ValueError: there are no pairs, their sizes differ, or a level is not below `num_levels`.
    """
    histogram = np.zeros(num_levels * NUM_INTENSITIES, np.int64)
    level_counts = None
    for image, levels in pairs:
        if level_counts is None:
            level_counts = np.zeros((num_levels, *levels.shape), np.int64)
        if not image.shape == levels.shape == level_counts.shape[1:]:
            want = level_counts.shape[1:]
            raise ValueError(f"image {image.shape} and levels {levels.shape}: want {want}.")
        if levels.max() >= num_levels:
            raise ValueError(f"want levels below {num_levels}, got {levels.max()}.")
        joint = levels.astype(np.intp) * NUM_INTENSITIES + min_max_uint8(image)
        histogram += np.bincount(joint.ravel(), minlength=histogram.size)
        for level in range(num_levels):
            level_counts[level] += levels == level
    if level_counts is None:
        raise ValueError("want at least one image to count, got none.")
    return Counts(histogram.reshape(num_levels, NUM_INTENSITIES), level_counts)


def fit_threshold(histograms: np.ndarray, level_names: Sequence[str]) -> ThresholdBaseline:
    """Finds the cuts of brightness into L bands, and the level of each band, that score best.

    Best is the highest IoU of level 1 for two levels, the highest mean IoU over the levels for
    three. Bands may be empty; a level that is neither there nor predicted has IoU 1. Of equally
    good answers the one with the lowest cuts is taken.

    Args:
        histograms: [L, 256] int64 as in `Counts`, L in {2, 3}.
        level_names: L names for the description.

    Raises:
        ValueError: the histograms have another shape, or there are not L names.
    """
    num_levels = len(level_names)
    if num_levels not in (2, 3) or histograms.shape != (num_levels, NUM_INTENSITIES):
        raise ValueError(
            f"want histograms [L, {NUM_INTENSITIES}] and L names, L 2 or 3; "
            f"got {histograms.shape} and {list(level_names)}."
        )
    edges = _all_edges(num_levels)
    below = np.concatenate([np.zeros((num_levels, 1), np.int64), histograms.cumsum(axis=1)], axis=1)
    in_band = below[:, edges[1:]] - below[:, edges[:-1]]  # [level, band, cut]
    orders = list(itertools.permutations(range(num_levels)))
    quality = np.stack([_band_quality(in_band, order) for order in orders])
    order, cut = np.unravel_index(quality.argmax(), quality.shape)
    bands = list(zip(orders[order], edges[:-1, cut], edges[1:, cut], strict=True))
    table = np.concatenate([np.full(stop - start, level) for level, start, stop in bands])
    named = [(level_names[level], start, stop) for level, start, stop in bands if start < stop]
    return ThresholdBaseline(table.astype(np.uint8), _describe_bands(named))


def _all_edges(num_bands: int) -> np.ndarray:
    """Returns the edges 0 <= .. <= 256 of every way to cut: [num_bands + 1, N]."""
    positions = range(NUM_INTENSITIES + 1)
    cuts = np.array(list(itertools.combinations_with_replacement(positions, num_bands - 1))).T
    return np.pad(cuts, ((1, 1), (0, 0)), constant_values=((0, NUM_INTENSITIES), (0, 0)))


def _band_quality(in_band: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Returns [N] scores to maximise, if band b of in_band [level, band, N] has level order[b]."""
    ious = []
    for band, level in enumerate(order):
        both = in_band[level, band]
        union = in_band[:, band].sum(axis=0) + in_band[level].sum(axis=0) - both
        iou = np.where(union > 0, both / np.maximum(union, 1), 1.0)
        if len(order) > 2 or level == 1:
            ious.append(iou)
    return np.mean(ious, axis=0)


def _describe_bands(bands: Sequence[tuple[str, int, int]]) -> str:
    parts = []
    for name, start, stop in bands:
        if (start, stop) == (0, NUM_INTENSITIES):
            parts.append(f"{name} everywhere")
        elif start == 0:
            parts.append(f"{name} below {stop}")
        elif stop == NUM_INTENSITIES:
            parts.append(f"{name} from {start}")
        else:
            parts.append(f"{name} {start} to {stop - 1}")
    return ", ".join(parts) + " (0 black, 255 white)"


def fit_mean_mask(level_counts: np.ndarray, level_names: Sequence[str]) -> MeanMaskBaseline:
    """Finds the one mask that fits the training split best.

    Two levels: the pixels that are foreground at least so often that the Dice score of all
    training pixels pooled is highest (of equals, the smallest mask). Three or more: the most
    frequent level of each pixel (of equals, the lowest).

    Args:
        level_counts: [L, H, W] int64 as in `Counts`.
        level_names: L names for the description.

    Raises:
        ValueError: there are not L names, or some pixels were counted more often than others.
    """
    totals = level_counts.sum(axis=0)
    if len(level_names) != len(level_counts) or totals.min() != totals.max():
        raise ValueError(
            f"want [{len(level_names)}, H, W] counts with one sum for all pixels, got "
            f"{level_counts.shape} with sums from {totals.min()} to {totals.max()}."
        )
    if len(level_counts) > 2:
        levels = level_counts.argmax(axis=0).astype(np.uint8)
        return MeanMaskBaseline(levels, "each pixel's most frequent level in the training split")
    num_images = int(totals.max())
    lowest = _best_lowest_count(level_counts[1], num_images)
    levels = (level_counts[1] >= lowest).astype(np.uint8)
    where = f"where at least {lowest} of {num_images} training images have it"
    return MeanMaskBaseline(levels, f"{level_names[1]} {where if levels.any() else 'nowhere'}")


def _best_lowest_count(counts: np.ndarray, num_images: int) -> int:
    """Finds the c for which the mask `counts >= c` has the highest Dice pooled over the images."""
    per_count = np.bincount(counts.ravel(), minlength=num_images + 1)
    # Entry c of both: pixels, and their foreground over all images, of the mask `counts >= c`.
    area = per_count[::-1].cumsum()[::-1]
    both = (per_count * np.arange(num_images + 1))[::-1].cumsum()[::-1]
    dice = 2 * both / np.maximum(area * num_images + counts.sum(), 1)
    # From the highest count down: of equals the smallest mask, an empty one without foreground.
    return num_images - int(dice[:0:-1].argmax())


@dataclasses.dataclass(frozen=True)
class HuBand:
    """A baseline that calls all voxels in a band of Hounsfield units foreground.

    Attributes:
        low: HU, included.
        high: HU, excluded.
    """

    low: int
    high: int

    @property
    def description(self) -> str:
        """The band in words, for a reader."""
        return f"all voxels from {self.low} to {self.high - 1} HU"

    def predict(self, hu: np.ndarray) -> np.ndarray:
        """Returns a mask, bool of the shape of `hu` int16."""
        return (hu >= self.low) & (hu < self.high)


def fit_band(volumes: Iterable[tuple[np.ndarray, np.ndarray]]) -> HuBand:
    """Finds the band with the highest IoU over the voxels of all volumes together.

    Args:
        volumes: for each volume, HU [N] int16 and foreground [N] bool of the voxels that count.
    """
    counts = np.zeros((2, _NUM_BINS), np.int64)
    for hu, foreground in volumes:
        bins = (hu.astype(np.intp) - hounsfield.LOWEST_HU) // STEP_HU
        for level in range(2):
            counts[level] += np.bincount(bins[foreground == level], minlength=_NUM_BINS)
    below = np.pad(counts.cumsum(axis=1), ((0, 0), (1, 0)))
    inside = below[:, None, :] - below[:, :, None]  # [level, low edge, high edge]
    union = np.maximum(inside[0] + counts[1].sum(), 1)
    iou = np.triu(inside[1] / union)
    low, high = np.unravel_index(iou.argmax(), iou.shape)
    return HuBand(int(_EDGES[low]), int(_EDGES[high]))


def read_voxels(
    system: system_lib.System, source: record.Source
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields HU and foreground, [N] each, of every volume's voxels that may be foreground."""
    what = "fitting the baseline"
    for index in progress.report(range(len(source)), what, "volumes", len(source)):
        item = source[index]
        counts = eligible(system, item)
        yield item.image[counts], system.task.true_levels(item.mask, 0)[counts] > 0


def eligible(system: system_lib.System, item: record.VolumeRecord) -> np.ndarray:
    """Returns where foreground may be, everywhere or in the lungs: [D, H, W] bool."""
    if system.volume_inference.inside_lungs:
        return item.mask & record.LUNG != 0
    return np.ones(item.mask.shape, bool)


class BandTally:
    """The scores of a band, volume by volume.

    Args:
        system: what the run's config describes.
        band: the baseline to score.
    """

    def __init__(self, system: system_lib.System, band: HuBand) -> None:
        self._system, self._band = system, band
        self._confusions: list[np.ndarray] = []
        self._people: list[str] = []

    def add(self, item: record.VolumeRecord) -> None:
        """Scores one more volume."""
        found = self._band.predict(item.image) & eligible(self._system, item)
        levels = self._system.task.true_levels(item.mask, 0)
        self._confusions.append(overlap.confusion_of_one(levels, found.astype(np.uint8), 2))
        self._people.append(item.patient_id)

    def score(self) -> dict[str, Any]:
        """Returns an entry of a summary's "baselines"."""
        counts = np.array(self._confusions)
        scored = scores_lib.score_confusions(
            self._system.task, counts, counts, np.array(self._people)
        )
        return {"description": self._band.description, **scored}
