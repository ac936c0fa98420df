"""Checks that both sides compute the same: equal weights give equal logits, losses and updates."""

import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from benchmarks import page
from benchmarks.peers import cases, protocol

TOLERANCE = 1e-4  # relative, float32
NUM_STEPS = 2  # One loss is from before an update, one from after it.
OPTIONS = dict(dtype="float32", source="memory", num_threads=2)


def compare(name: str, jax_side: protocol.Worker, torch_side: protocol.Worker) -> dict[str, Any]:
    """Lets both sides train the same network on the same batch; returns their `differences`.

    Raises:
        Refused: a side can't train it.
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
    """Compares the results of `jax_worker.check` and `torch_training.check`.

    Only one update is compared. After more of them rounding shows, because Adam takes a full step
    for every gradient that is almost 0, whichever its sign.

    Returns:
        "parameters" of both sides; the largest relative differences of "logits", of "losses" before
        and after an update, and of "grad_norm"; "moved", the relative change of the loss by the
        update, which must be far above the tolerance for the check to mean anything; "equal", True
        if all agree.
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
    """Returns Markdown with a row for each network."""
    return page.table([_cells(row) for row in rows])


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    ours, theirs = row["parameters"]
    return {
        "case": row["case"],
        "parameters": f"{ours:,}" if ours == theirs else f"{ours:,} and {theirs:,}",
        "logits": f"{row['logits']:.1e}",
        "losses": f"{row['losses']:.1e}",
        "gradient norm": f"{row['grad_norm']:.1e}",
        "loss moved": f"{row['moved']:.1e}",
        "equal": "yes" if row["equal"] else "NO",
    }
