"""Several networks in one command: those that find the same are averaged, others go together."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxlung.predict import network as network_lib
from jaxlung.tasks import task as task_lib

# Roles of tasks, those that find lungs before those that need them.
ROLES = ("lung", "levels", "infection", "diagnosis")


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found in one image.

    Attributes:
        probs: mean of the members' outputs, float32.
        preds: its levels, uint8.
        disagreement: mean standard deviation of the members' outputs over all that any of them
            found (of a diagnosis, over its one pixel); NaN of one member, or if nothing was found.
        spread: the standard deviation everywhere, float32; None of one member.
    """

    probs: np.ndarray
    preds: np.ndarray
    disagreement: float
    spread: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Networks of one role; made by `gather`.

    Attributes:
        members: they may differ in architecture and input size.
        judge: the first member, with the mean of all thresholds (our choice).
    """

    members: tuple[network_lib.Network, ...]
    judge: network_lib.Network

    @property
    def role(self) -> str:
        """See `network.Network`."""
        return self.judge.role

    def combine(self, outputs: Iterable[np.ndarray]) -> Found:
        """Averages the members' outputs, which it takes one by one (Welford, 1962).

        Args:
            outputs: float32 each, of one shape, in the order of `members`.
        """
        count, mean, squares, union = 0, None, None, None
        for member, probs in zip(self.members, outputs, strict=True):
            count += 1
            if count == 1:
                mean = probs.astype(np.float32)
                if len(self.members) > 1:
                    squares, union = np.zeros_like(mean), member.preds(probs) > 0
                continue
            away = probs - mean
            mean += away / count
            squares += away * (probs - mean)
            union |= member.preds(probs) > 0
        preds = self.judge.preds(mean)
        if squares is None:
            return Found(mean, preds, math.nan, None)
        spread = np.sqrt(squares / count)
        inside = spread[union] if self.judge.system.task.is_map else spread.ravel()
        disagreement = float(inside.mean(dtype=np.float64)) if inside.size else math.nan
        return Found(mean, preds, disagreement, spread)


@dataclasses.dataclass(frozen=True, eq=False)
class Team:
    """All networks of a command, by role in the order of `ROLES`.

    Attributes:
        ensembles: by role.
        lungs_from: the role that says where lungs are; "" if none does.
    """

    ensembles: Mapping[str, Ensemble]
    lungs_from: str

    @property
    def is_volumetric(self) -> bool:
        """Whether all are for CTs, or all for X-rays."""
        return next(iter(self.ensembles.values())).judge.is_volumetric

    @property
    def members(self) -> list[network_lib.Network]:
        """All networks."""
        return [member for ensemble in self.ensembles.values() for member in ensemble.members]

    @property
    def map_roles(self) -> list[str]:
        """The roles that judge pixels."""
        return [role for role in self.ensembles if role != "diagnosis"]

    @property
    def has_masks(self) -> bool:
        """Whether there is a mask to write."""
        return bool(self.map_roles)

    @property
    def digest(self) -> str:
        """Of all networks, in whatever order they were named."""
        digests = {role: sorted(m.digest for m in e.members) for role, e in self.ensembles.items()}
        return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def gather(networks: Sequence[network_lib.Network]) -> Team:
    """Sorts networks by what they find.

    Raises:
        ValueError: networks of X-rays and of CTs; one twice; one whose role is not in `ROLES`; one
            that needs lungs, and none that finds them.
    """
    first = networks[0]
    digests = {}
    for each in networks:
        if each.is_volumetric != first.is_volumetric:
            raise ValueError(
                f"--workdir: {first.path} and {each.path} are of X-rays and of CTs; want one kind."
            )
        if each.digest in digests:
            raise ValueError(f"--workdir: {each.path} and {digests[each.digest]} are one network.")
        if each.role not in ROLES:
            raise ValueError(
                f"--workdir: {each.path}: its task finds {each.role!r}, which predictions have no "
                f"output for; want one of {', '.join(ROLES)}."
            )
        digests[each.digest] = each.path
    by_role = {role: tuple(each for each in networks if each.role == role) for role in ROLES}
    ensembles = {role: _make(members) for role, members in by_role.items() if members}
    lungs_from = next((role for role in ("lung", "levels") if role in ensembles), "")
    for each in networks:
        if each.needs_lungs and not lungs_from:
            raise ValueError(
                f"--workdir: {each.path} looks inside the lungs alone; want the folder of a run "
                "that finds lungs too, with another --workdir."
            )
    return Team(ensembles, lungs_from)


def _make(members: tuple[network_lib.Network, ...]) -> Ensemble:
    judge, task = members[0], members[0].system.task
    thresholds = [member.system.task.threshold for member in members]
    if len(set(thresholds)) > 1:
        mean = sum(thresholds) / len(thresholds)
        above = functools.partial(task_lib.above, threshold=mean)
        task = dataclasses.replace(task, threshold=mean, postprocess=above)
        judge = dataclasses.replace(judge, system=dataclasses.replace(judge.system, task=task))
    return Ensemble(members, judge)
