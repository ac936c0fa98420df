"""The options of a prediction command, and the endings of the files that it writes."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from jaxlung.predict import ensemble

MAX_PIXELS = 100_000_000
MAX_VOXELS = 1_000_000_000
OVERLAY = "_overlay.png"
DICOM_SEG = ".seg.dcm"
JSON = ".json"
RTSTRUCT = ".rtstruct.dcm"


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of one prediction command.

    Attributes:
        output: the output folder.
        probs: also write probabilities, and for ensembles the members' standard deviation.
        overlay: also write pictures with the masks drawn over the image.
        dicom_seg: also write the masks of DICOM X-rays and series as DICOM SEG.
        rtstruct: also write the masks of DICOM series as RTSTRUCT.
        json: also write the row of each file as JSON.
        max_pixels: number of pixels above which pictures are refused.
        max_voxels: number of voxels above which volumes are refused.
    """

    output: pathlib.Path
    probs: bool = False
    overlay: bool = False
    dicom_seg: bool = False
    rtstruct: bool = False
    json: bool = False
    max_pixels: int = MAX_PIXELS
    max_voxels: int = MAX_VOXELS

    @property
    def written(self) -> dict[str, bool]:
        """The options that choose the files; a resumed command must have the same."""
        names = ("probs", "overlay", "dicom_seg", "rtstruct", "json")
        return {name: getattr(self, name) for name in names}


def probs_by_ending(found: Mapping[str, ensemble.Found]) -> dict[str, np.ndarray]:
    """Returns probabilities and standard deviations by the ending of their files.

    Endings are "_probs" and "_disagreement" for one role, else "_lung_probs" and so on.
    """
    arrays = {}
    for role, each in found.items():
        start = _start(role, len(found))
        assert each.probs is not None
        arrays[f"{start}_probs"] = each.probs
        if each.spread is not None:
            arrays[f"{start}_disagreement"] = each.spread
    return arrays


def endings(team: ensemble.Team, options: Options, mask: str, suffix: str) -> list[str]:
    """Returns all endings that a command may append to a name.

    Args:
        team: the networks.
        options: the command's options.
        mask: ending of masks.
        suffix: suffix of files with probabilities.
    """
    found = [mask] if team.has_masks else []
    found += [OVERLAY] if options.overlay else []
    found += [DICOM_SEG] if options.dicom_seg else []
    found += [RTSTRUCT] if options.rtstruct else []
    found += [JSON] if options.json else []
    for role in team.map_roles if options.probs else ():
        start = _start(role, len(team.map_roles))
        found += [f"{start}_probs{suffix}", f"{start}_disagreement{suffix}"]
    return found


def _start(role: str, num_roles: int) -> str:
    return "" if num_roles == 1 else f"_{role}"
