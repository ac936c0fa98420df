"""What all networks of a command found in one picture or volume: its mask and its numbers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlung.predict import ensemble, measure
from jaxlung.tasks import three_level

INFECTION_LEVEL = three_level.LEVELS.index("infection")


@dataclasses.dataclass(frozen=True)
class Findings:
    """What `combine` makes of all roles.

    Attributes:
        lungs: bool, of the image's shape; None if nobody looked for them.
        infection: likewise.
        infection_probs: float32 of the network that finds infection alone; None without.
        lung_probs: likewise, of lungs.
        diagnosis: name of the class; "" without.
        diagnosis_prob: probability of COVID-19; None without.
        disagreements: by role, of ensembles.
    """

    lungs: np.ndarray | None
    infection: np.ndarray | None
    lung_probs: np.ndarray | None
    infection_probs: np.ndarray | None
    diagnosis: str
    diagnosis_prob: float | None
    disagreements: dict[str, float]

    @property
    def layers(self) -> dict[str, np.ndarray]:
        """The masks that there are, bool by name."""
        both = {"lung": self.lungs, "infection": self.infection}
        return {name: mask for name, mask in both.items() if mask is not None}

    def levels(self, values: tuple[int, ...], foreground: int) -> np.ndarray | None:
        """The mask to write, uint8; None if nobody looked for any.

        Args:
            values: of background, lung and infection where both were looked for; infection wins.
            foreground: of what was looked for alone.
        """
        layers = self.layers
        if len(layers) < 2:
            return next((mask * np.uint8(foreground) for mask in layers.values()), None)
        outside, lung, infection = np.uint8(values)
        return np.where(self.infection, infection, np.where(self.lungs, lung, outside))

    def numbers(
        self,
        spacing_mm: tuple[float, ...] | None,
        *,
        mirrored: bool | None = None,
        affine: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """A row of `outputs.COLUMNS`, but for name, path, kind and seconds; see `measure`."""
        row = {f"{role}_disagreement": value for role, value in self.disagreements.items()}
        row |= {"diagnosis": self.diagnosis, "covid19_probability": self.diagnosis_prob}
        target = "lung" if self.infection is None else "infection"
        preds = self.layers.get(target)
        if preds is None:
            return row
        probs = self.lung_probs if target == "lung" else self.infection_probs
        return row | measure.measure(
            preds, probs, self.lungs, spacing_mm, target=target, mirrored=mirrored, affine=affine
        )


def combine(team: ensemble.Team, found: Mapping[str, ensemble.Found]) -> Findings:
    """Everything that was found in one image, by role.

    A map of levels gives lungs and infection where no network of these alone is there.
    """
    preds = {role: each.preds > 0 for role, each in found.items()}
    if "levels" in found:
        preds.setdefault("infection", found["levels"].preds == INFECTION_LEVEL)
    diagnosis = found.get("diagnosis")
    names = team.ensembles["diagnosis"].judge.system.task.levels if diagnosis else ()
    return Findings(
        lungs=preds.get(team.lungs_from),
        infection=preds.get("infection"),
        lung_probs=found["lung"].probs if "lung" in found else None,
        infection_probs=found["infection"].probs if "infection" in found else None,
        diagnosis=names[diagnosis.preds.item()] if diagnosis else "",
        diagnosis_prob=diagnosis.probs.item() if diagnosis else None,
        disagreements={
            role: each.disagreement for role, each in found.items() if each.spread is not None
        },
    )
