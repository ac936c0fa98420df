"""The JSON file beside a checkpoint's arrays: their digests, progress, rank and its own digest."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from etils import epath

Progress = dict[str, Any]  # What a resumed run needs besides the state.
_FIELDS = {"progress", "rank", "leaves", "sha256"}


class Damaged(ValueError):
    """The error for a checkpoint that differs from what was saved."""


@dataclasses.dataclass(frozen=True)
class Leaf:
    """An array of the saved state.

    Attributes:
        digest: checksum of the values, see `checkpoint.digest_state`.
        dtype: name of the type; "" in notes of earlier versions.
        shape: shape of the array; None in notes of earlier versions.
    """

    digest: int
    dtype: str = ""
    shape: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Notes:
    """The content of the file.

    Attributes:
        progress: JSON values that belong to the step.
        rank: lower is better; None if the notes of an earlier version can't be read.
        leaves: arrays by path, such as ".params['conv']['kernel']".
    """

    progress: Progress
    rank: float | None
    leaves: dict[str, Leaf]


def to_json(notes: Notes) -> dict[str, Any]:
    """Returns the content of the file, with a digest of all of it."""
    content = dataclasses.asdict(notes)
    return content | {"sha256": sha256(content)}


def load(folder: epath.Path) -> Notes:
    """Reads the notes of the checkpoint in `folder`, which a save leaves in the item "progress".

    Raises:
        Damaged: the notes can't be read, or differ from what was saved.
    """
    try:
        content = json.loads((folder / "progress" / "metadata").read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError) as error:
        raise Damaged(f"its notes can't be read ({error})") from error
    if isinstance(content, dict) and "digests" in content and not _FIELDS & set(content):
        return _from_earlier(folder, content)
    if not isinstance(content, dict) or set(content) != _FIELDS:
        raise Damaged("its notes are not what was saved")
    if content.pop("sha256") != sha256(content):
        raise Damaged("its notes differ from what was saved")
    leaves = {
        name: Leaf(leaf["digest"], leaf["dtype"], tuple(leaf["shape"]))
        for name, leaf in content["leaves"].items()
    }
    return Notes(content["progress"], content["rank"], leaves)


def _from_earlier(folder: epath.Path, content: dict[str, Any]) -> Notes:
    """Reads notes of earlier versions, without a digest and with the rank in the item "metrics"."""
    progress = {name: value for name, value in content.items() if name != "digests"}
    if not isinstance(content["digests"], dict):
        raise Damaged("its notes are not what was saved")
    leaves = {name: Leaf(digest) for name, digest in content["digests"].items()}
    return Notes(progress, _earlier_rank(folder), leaves)


def _earlier_rank(folder: epath.Path) -> float | None:
    try:
        metrics = json.loads((folder / "metrics" / "metrics").read_text())
        return float(metrics["rank"] if "rank" in metrics else metrics["val_loss"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def find_best(ranks: Mapping[int, float | None]) -> int | None:
    """Returns the step of the lowest finite rank, the later of equals; None if there is none."""
    known = {step: x for step, x in ranks.items() if x is not None and math.isfinite(x)}
    return min(known, key=lambda step: (known[step], -step), default=None)


def digest_weights(digests: Mapping[str, int]) -> str:
    """Returns one digest, hexadecimal, of all parameters, running statistics and their averages.

    Args:
        digests: leaf path -> digest, for a whole `TrainState`.
    """
    kinds = (".params", ".batch_stats", ".average")
    return sha256({name: int(x) for name, x in digests.items() if name.startswith(kinds)})


def sha256(value: Any) -> str:
    """Returns the hexadecimal digest of JSON values; the order of keys doesn't matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
