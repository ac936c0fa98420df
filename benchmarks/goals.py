"""Compares our goals for one H200 in bfloat16 with what `benchmarks.accelerator` measured."""

from collections.abc import Sequence
from typing import Any

from benchmarks import page

NETWORK, CUBES = "covidqu_256_b", "nnunet_form_b"
EPOCHS = 100  # as in the paper
TRAINING_IMAGES = 3728  # COVID-QU-Ex, infection


def find(findings: Sequence[page.Finding]) -> list[page.Finding]:
    """Returns a row for each goal, with the best measurement of any form.

    Quick runs don't count.
    """
    rows = [row.numbers for row in findings if isinstance(row.numbers, dict)]
    images, patches = (_best_rate(rows, case) for case in (NETWORK, CUBES))
    minutes = [
        row[f"minutes_of_{EPOCHS}_epochs"]
        for row in rows
        if row.get("images", [0])[0] == TRAINING_IMAGES
    ]
    ratios = [row["ratio"]["median"] for row in rows if "compile" in row.get("mode", "")]
    return [
        _row("covidqu in training at 256 x 256, images/s: 60 % of peak", 2060, images, ",.1f"),
        _row(
            f"{EPOCHS} epochs with validation, minutes, at most (estimated from 3)",
            4,
            min(minutes, default=None),
            ".1f",
        ),
        _row("nnU-Net form, 31.8 M parameters, patches of 128^3/s", 100, patches, ".1f"),
        _row(
            "speed over compiled PyTorch, the least of all cases",
            1.5,
            min(ratios, default=None),
            ".2f",
        ),
    ]


def _row(what: str, goal: float, measured: float | None, spec: str) -> page.Finding:
    cells = {"goal": what, "wanted": f"{goal:,}", "measured": "not measured", "": ""}
    if measured is not None:
        good = measured <= goal if "at most" in what else measured >= goal
        cells |= {"measured": format(measured, spec), "": "reached" if good else "missed"}
    return page.Finding("Goals, for one H200 in bfloat16", cells, measured)


def _best_rate(rows: Sequence[dict[str, Any]], case: str) -> float | None:
    """Returns the highest bfloat16 training rate of a case, examples per second, or None."""
    rates = [
        row["rate"]["median"]
        for row in rows
        if row.get("case", "").startswith(case) and row.get("type") == "bfloat16" and "rate" in row
    ]
    return max(rates, default=None)
