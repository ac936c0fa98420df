"""What a command wants of predictions, and what it names files of probabilities."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from jaxlung.predict import ensemble


@dataclasses.dataclass(frozen=True)
class Options:
    """Of one command.

    Attributes:
        output: the folder.
        probs: write probabilities too, and of ensembles how far the members are apart.
        overlay: draw pictures with masks over them.
        max_pixels: larger pictures are refused.
        max_voxels: larger volumes are refused.
    """

    output: pathlib.Path
    probs: bool
    overlay: bool
    max_pixels: int
    max_voxels: int


def probs_by_ending(found: Mapping[str, ensemble.Found]) -> dict[str, np.ndarray]:
    """Probabilities and standard deviations, by what is added to the name.

    "_probs" and "_disagreement" if there is one role, else "_lung_probs" and so on.
    """
    arrays = {}
    for role, each in found.items():
        start = "" if len(found) == 1 else f"_{role}"
        arrays[f"{start}_probs"] = each.probs
        if each.spread is not None:
            arrays[f"{start}_disagreement"] = each.spread
    return arrays
