"""Combines the results of all networks for one picture or volume into its mask and numbers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlung.predict import ensemble, measure
from jaxlung.tasks import three_level

INFECTION_LEVEL = three_level.LEVELS.index("infection")


@dataclasses.dataclass(frozen=True)
class Findings:
    """The combined results of all roles for one image, made by `combine`.

    Attributes:
        lungs: mask of the lungs, bool, of the image's shape; None if no network finds lungs.
        infection: mask of infection, bool, of the image's shape; None if no network finds it.
        lung_probs: probabilities, float32, of the network that finds lungs alone, or None.
        infection_probs: probabilities, float32, of the network that finds infection alone, or
            None. Those of CTs may stay on the device.
        diagnosis: name of the class; "" without a network of that role.
        diagnosis_prob: probability of COVID-19; None without a network of that role.
        certainties: confidence and entropy, by role, if they were measured on the device.
        disagreements: disagreement of each ensemble of several networks, by role.
    """

    lungs: np.ndarray | None
    infection: np.ndarray | None
    lung_probs: np.ndarray | None
    infection_probs: np.ndarray | None
    diagnosis: str
    diagnosis_prob: float | None
    certainties: Mapping[str, Mapping[str, float]]
    disagreements: dict[str, float]

    @property
    def layers(self) -> dict[str, np.ndarray]:
        """The masks that aren't None by name, "lung" and "infection"."""
        both = {"lung": self.lungs, "infection": self.infection}
        return {name: mask for name, mask in both.items() if mask is not None}

    def levels(self, values: tuple[int, ...], foreground: int) -> np.ndarray | None:
        """Returns the mask to write, uint8; None if there is none.

        Args:
            values: values of background, lung and infection if both are there; infection covers
                lung.
            foreground: value of the foreground of a lone mask.
        """
        if self.lungs is None or self.infection is None:
            return next((mask * np.uint8(foreground) for mask in self.layers.values()), None)
        outside, lung, infection = (np.uint8(value) for value in values)
        return np.where(self.infection, infection, np.where(self.lungs, lung, outside))

    def numbers(
        self,
        spacing_mm: tuple[float, ...] | None,
        *,
        mirrored: bool | None = None,
        affine: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """Returns a row of `columns.COLUMNS` without name, path, kind and seconds.

        The arguments are those of `measure.measure`.
        """
        row: dict[str, Any] = {f"{role}_disagreement": x for role, x in self.disagreements.items()}
        row |= {"diagnosis": self.diagnosis, "covid19_probability": self.diagnosis_prob}
        target = "lung" if self.infection is None else "infection"
        preds = self.layers.get(target)
        if preds is None:
            return row
        certainty = dict(self.certainties.get(target, {}))
        probs = self.lung_probs if target == "lung" else self.infection_probs
        if certainty:
            probs = None
        measured = measure.measure(
            preds, probs, self.lungs, spacing_mm, target=target, mirrored=mirrored, affine=affine
        )
        return row | measured | certainty


def combine(team: ensemble.Team, found: Mapping[str, ensemble.Found]) -> Findings:
    """Combines the results for one image.

    A network of levels gives lungs and infection where no network finds these alone.

    Args:
        team: all networks.
        found: the results by role.
    """
    preds = {role: each.preds > 0 for role, each in found.items()}
    if "levels" in found:
        preds.setdefault("infection", found["levels"].preds == INFECTION_LEVEL)
    diagnosis = found.get("diagnosis")
    diagnosis_prob = None
    if diagnosis:
        assert diagnosis.probs is not None  # Only those of CTs may stay on the device.
        diagnosis_prob = diagnosis.probs.item()
    names = team.ensembles["diagnosis"].judge.system.task.levels if diagnosis else ()
    return Findings(
        lungs=preds.get(team.lungs_from),
        infection=preds.get("infection"),
        lung_probs=found["lung"].probs if "lung" in found else None,
        infection_probs=found["infection"].probs if "infection" in found else None,
        certainties={role: each.certainty for role, each in found.items()},
        diagnosis=names[diagnosis.preds.item()] if diagnosis else "",
        diagnosis_prob=diagnosis_prob,
        disagreements={
            role: each.disagreement
            for role, each in found.items()
            if len(team.ensembles[role].members) > 1
        },
    )
