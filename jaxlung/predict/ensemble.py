"""Several networks in one command: those of one role are averaged, those of others combined."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from etils import epath

from jaxlung.predict import network as network_lib
from jaxlung.tasks import task as task_lib

# Roles of tasks, those that find lungs before those that need them.
ROLES = ("lung", "levels", "infection", "diagnosis")


@dataclasses.dataclass(frozen=True)
class Found:
    """The result of an ensemble for one image.

    Attributes:
        probs: mean of the members' outputs, float32; None for a CT whose probabilities are not
            written.
        preds: levels of the mean, uint8.
        disagreement: standard deviation of the members' outputs, averaged over all pixels that any
            member found (for a diagnosis, its one pixel); NaN for one member, or if nothing was
            found.
        spread: standard deviation at every pixel, float32; None for one member, and where `probs`
            is.
        certainty: confidence and entropy of a CT, see `measure.measure`.
    """

    probs: np.ndarray | None
    preds: np.ndarray
    disagreement: float
    spread: np.ndarray | None
    certainty: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Networks of one role; made by `gather`.

    Attributes:
        members: the networks, which may differ in architecture and input size.
        judge: the first member with the mean of all thresholds (our choice), for the levels.
    """

    members: tuple[network_lib.Network, ...]
    judge: network_lib.Network

    @property
    def role(self) -> str:
        """The role of the members, see `network.Network`."""
        return self.judge.role

    @property
    def turns(self) -> list[tuple[network_lib.Network, ...]]:
        """The members in turns; those of a turn are on different devices, see `load_all`."""
        size = len({member.devices for member in self.members})
        return [self.members[i : i + size] for i in range(0, len(self.members), size)]

    def combine(self, outputs: Iterable[np.ndarray]) -> Found:
        """Averages the members' outputs, one by one (Welford, 1962), to hold few in memory.

        Args:
            outputs: [...] float32 each, of one shape, in the order of `members`.
        """
        pairs = zip(self.members, outputs, strict=True)
        first, probs = next(pairs)
        mean = probs.astype(np.float32)
        if len(self.members) == 1:
            return Found(mean, self.judge.preds(mean), math.nan, None)
        squares, union = np.zeros_like(mean), first.preds(probs) > 0
        for count, (member, probs) in enumerate(pairs, 2):
            away = probs - mean
            mean += away / count
            squares += away * (probs - mean)
            union |= member.preds(probs) > 0
        preds = self.judge.preds(mean)
        spread = np.sqrt(squares / len(self.members))
        inside = spread[union] if self.judge.system.task.is_map else spread.ravel()
        disagreement = float(inside.mean(dtype=np.float64)) if inside.size else math.nan
        return Found(mean, preds, disagreement, spread)


@dataclasses.dataclass(frozen=True, eq=False)
class Team:
    """All networks of a command, by role in the order of `ROLES`.

    Attributes:
        ensembles: the ensembles by role.
        lungs_from: role of the ensemble that finds the lungs; "" if none does.
    """

    ensembles: Mapping[str, Ensemble]
    lungs_from: str

    @property
    def is_volumetric(self) -> bool:
        """True if all networks are for CTs, False if all are for X-rays."""
        return next(iter(self.ensembles.values())).judge.is_volumetric

    @property
    def members(self) -> list[network_lib.Network]:
        """All networks of all ensembles."""
        return [member for ensemble in self.ensembles.values() for member in ensemble.members]

    @property
    def map_roles(self) -> list[str]:
        """The roles that predict pixels, not a whole image."""
        return [role for role in self.ensembles if role != "diagnosis"]

    @property
    def has_masks(self) -> bool:
        """True if there is a mask to write."""
        return bool(self.map_roles)

    @property
    def digest(self) -> str:
        """SHA-256 of all networks' digests, whatever the order in which they were named."""
        digests = {role: sorted(m.digest for m in e.members) for role, e in self.ensembles.items()}
        return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def gather(networks: Sequence[network_lib.Network]) -> Team:
    """Groups networks into ensembles by their role.

    Raises:
        ValueError: some networks are for X-rays and others for CTs, a network is named twice, a
            role is not in `ROLES`, or a network needs lungs and none finds them.
    """
    first = networks[0]
    paths: dict[str, epath.Path] = {}
    for each in networks:
        if each.is_volumetric != first.is_volumetric:
            raise ValueError(
                f"--model: {first.path} and {each.path} are for X-rays and for CTs; want one kind."
            )
        if each.digest in paths:
            raise ValueError(f"--model: {each.path} and {paths[each.digest]} are one network.")
        if each.role not in ROLES:
            raise ValueError(
                f"--model: {each.path}: its task finds {each.role!r}, which predictions have no "
                f"output for; want one of {', '.join(ROLES)}."
            )
        paths[each.digest] = each.path
    by_role = {role: tuple(each for each in networks if each.role == role) for role in ROLES}
    ensembles = {role: _make(members) for role, members in by_role.items() if members}
    lungs_from = next((role for role in ("lung", "levels") if role in ensembles), "")
    for each in networks:
        if each.needs_lungs and not lungs_from:
            raise ValueError(
                f"--model: {each.path} sees the lungs alone; add a network that finds lungs with "
                "another --model."
            )
    return Team(ensembles, lungs_from)


def _make(members: tuple[network_lib.Network, ...]) -> Ensemble:
    judge, task = members[0], members[0].system.task
    thresholds = [t for member in members if (t := member.system.task.threshold) is not None]
    if len(set(thresholds)) > 1:
        step = dataclasses.replace(
            judge.system.step, task=task_lib.with_threshold(task, thresholds)
        )
        judge = dataclasses.replace(judge, system=dataclasses.replace(judge.system, step=step))
    return Ensemble(members, judge)
