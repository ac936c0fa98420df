"""What a network on CT must beat: the one band of Hounsfield units that does best."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxlung.data import record
from jaxlung.evaluation import scores as scores_lib
from jaxlung.host import progress
from jaxlung.metrics import overlap
from jaxlung.training import system as system_lib
from jaxlung.volume import hounsfield

STEP_HU = 16  # Width of a bin.
_EDGES = np.arange(hounsfield.LOWEST_HU, hounsfield.HIGHEST_HU + STEP_HU + 1, STEP_HU)
_NUM_BINS = len(_EDGES) - 1


@dataclasses.dataclass(frozen=True)
class HuBand:
    """Foreground is what lies in a band.

    Attributes:
        low: HU, included.
        high: HU, excluded.
    """

    low: int
    high: int

    @property
    def description(self) -> str:
        """For a reader."""
        return f"all voxels from {self.low} to {self.high - 1} HU"

    def predict(self, hu: np.ndarray) -> np.ndarray:
        """Bool of the shape of `hu`, int16."""
        return (hu >= self.low) & (hu < self.high)


def fit(volumes: Iterable[tuple[np.ndarray, np.ndarray]]) -> HuBand:
    """The band with the highest IoU over all voxels together.

    Args:
        volumes: pairs of HU [N] int16 and foreground [N] bool, of the voxels that count.
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


def voxels(
    system: system_lib.System, source: record.Source
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """HU and foreground of the voxels that may be foreground, [N] each, volume by volume."""
    what = "fitting the baseline"
    for index in progress.report(range(len(source)), what, "volumes", len(source)):
        item = source[index]
        counts = eligible(system, item)
        yield item.image[counts], system.task.true_levels(item.mask, 0)[counts] > 0


def eligible(system: system_lib.System, item: record.VolumeRecord) -> np.ndarray:
    """[D, H, W] bool: where foreground may be, all or the lungs."""
    if system.inference.inside_lungs:
        return item.mask & record.LUNG != 0
    return np.ones(item.mask.shape, bool)


class Tally:
    """The scores of a band, volume by volume.

    Args:
        system: what the run's config describes.
        band: what predicts.
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
