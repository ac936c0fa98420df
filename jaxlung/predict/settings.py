"""What a command wants of predictions, and what it appends to names for files of each kind."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from jaxlung.predict import ensemble

MAX_PIXELS = 100_000_000
MAX_VOXELS = 1_000_000_000
OVERLAY = "_overlay.png"
DICOM_SEG = ".seg.dcm"


@dataclasses.dataclass(frozen=True)
class Options:
    """Of one command.

    Attributes:
        output: the folder.
        probs: write probabilities too, and of ensembles how far the members are apart.
        overlay: draw pictures with masks over them.
        dicom_seg: write masks of DICOM series as DICOM SEG too.
        max_pixels: larger pictures are refused.
        max_voxels: larger volumes are refused.
    """

    output: pathlib.Path
    probs: bool = False
    overlay: bool = False
    dicom_seg: bool = False
    max_pixels: int = MAX_PIXELS
    max_voxels: int = MAX_VOXELS

    @property
    def written(self) -> dict[str, bool]:
        """What is written beside masks: a folder that is gone on with must have the same."""
        return {"probs": self.probs, "overlay": self.overlay, "dicom_seg": self.dicom_seg}


def probs_by_ending(found: Mapping[str, ensemble.Found]) -> dict[str, np.ndarray]:
    """Probabilities and standard deviations, by what is appended to the name.

    "_probs" and "_disagreement" if there is one role, else "_lung_probs" and so on.
    """
    arrays = {}
    for role, each in found.items():
        start = _start(role, len(found))
        arrays[f"{start}_probs"] = each.probs
        if each.spread is not None:
            arrays[f"{start}_disagreement"] = each.spread
    return arrays


def endings(team: ensemble.Team, options: Options, mask: str, suffix: str) -> list[str]:
    """All that may be appended to a name.

    Args:
        team: the networks.
        options: of the command.
        mask: the ending of masks.
        suffix: of probabilities.
    """
    found = [mask] if team.has_masks else []
    found += [OVERLAY] if options.overlay else []
    found += [DICOM_SEG] if options.dicom_seg else []
    for role in team.map_roles if options.probs else ():
        start = _start(role, len(team.map_roles))
        found += [f"{start}_probs{suffix}", f"{start}_disagreement{suffix}"]
    return found


def _start(role: str, num_roles: int) -> str:
    return "" if num_roles == 1 else f"_{role}"
