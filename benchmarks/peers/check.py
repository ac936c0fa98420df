"""The proof that both sides compute the same: from equal weights, equal logits, losses, updates."""

import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from benchmarks.peers import cases, protocol

TOLERANCE = 1e-4  # relative, float32
NUM_STEPS = 2  # whose losses are compared: before an update and after it
OPTIONS = dict(dtype="float32", source="memory", num_threads=2)


def compare(name: str, jax_side: protocol.Worker, torch_side: protocol.Worker) -> dict[str, Any]:
    """Lets both sides train from one network on one batch; see `differences`.

    Raises:
        Refused: one of them can't.
    """
    sections = cases.load_config(cases.find(name), **OPTIONS).to_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "network.npz")
        ours = jax_side.ask("check", case=name, path=path, num_steps=NUM_STEPS, **OPTIONS)
        theirs = torch_side.ask(
            "check",
            path=path,
            num_steps=NUM_STEPS,
            sections=sections,
            network="",
            words=[],
            source="memory",
        )
    return {"case": name, **differences(ours, theirs)}


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Relative differences of what `jax_worker.check` and `torch_training.check` found.

    Returns:
        "parameters" of both; the largest relative difference of "logits", of the "losses" before
        and after an update, and of the "grad_norm"; "moved", by how much the update changed the
        loss, relative, which must be far more than the tolerance to prove anything; whether it is
        all "equal". After more updates rounding shows: Adam makes a full step of every gradient
        that is almost 0, whichever its sign.
    """
    before, *_, after = ours["losses"]
    found = {
        "logits": theirs["logits_difference"] / theirs["logits_largest"],
        "losses": _largest(ours["losses"], theirs["losses"]),
        "grad_norm": _largest([ours["grad_norm"]], [theirs["grad_norm"]]),
    }
    parameters = [ours["parameters"], theirs["parameters"]]
    moved = abs(after - before) / before
    equal = (
        max(found.values()) <= TOLERANCE
        and parameters[0] == parameters[1]
        and moved > 10 * TOLERANCE
    )
    return {"parameters": parameters, **found, "moved": moved, "equal": equal}


def _largest(ours: list[float], theirs: list[float]) -> float:
    return max(abs(a - b) / abs(a) for a, b in zip(ours, theirs, strict=True))


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, a row per network."""
    lines = [
        "| case | parameters | logits | losses | gradient norm | loss moved | equal |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours, theirs = row["parameters"]
        counts = f"{ours:,}" if ours == theirs else f"{ours:,} and {theirs:,}"
        found = " | ".join(
            f"{row[name]:.1e}" for name in ("logits", "losses", "grad_norm", "moved")
        )
        lines.append(f"| {row['case']} | {counts} | {found} | {'yes' if row['equal'] else 'NO'} |")
    return "\n".join(lines)
