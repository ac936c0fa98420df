"""Compares our targets for one H200 in bfloat16 with measurements.

python -m benchmarks.targets FOLDER      # the folder of benchmarks/accelerator.sh
"""

import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import epochs, page

NETWORK, CUBES = "covidqu", "nnU-Net form"


def find(folder: pathlib.Path) -> list[page.Finding]:
    """Returns a row for each target, with the measurements in the JSON files of a folder.

    Quick runs and CPUs don't count.
    """
    images, patches = (_best_rate(folder, name) for name in (NETWORK, CUBES))
    minutes = [
        found["minutes_of_100_epochs"]
        for found in _load(folder, "epochs")
        if found["images"] == [epochs.NUM_TRAIN, epochs.NUM_VALIDATION]
    ]
    ratios = list(_ratios(folder))
    return [
        _row("covidqu in training at 256 x 256, images/s: 40 % of peak", 1370, images, ",.1f"),
        _row("the same: 60 % of peak", 2060, images, ",.1f"),
        _row(
            "100 epochs with validation, minutes, at most (estimated from 3)",
            5,
            min(minutes, default=None),
            ".1f",
        ),
        _row("nnU-Net form, 31.8 M parameters, patches of 128^3/s", 75, patches, ".1f"),
        _row(
            "speed over compiled PyTorch, the least of all cases",
            1.3,
            min(ratios, default=None),
            ".2f",
        ),
    ]


def _row(what: str, target: float, measured: float | None, spec: str) -> page.Finding:
    cells = {"target": what, "wanted": f"{target:,}", "measured": "not measured", "": ""}
    if measured is not None:
        good = measured <= target if "at most" in what else measured >= target
        cells |= {"measured": format(measured, spec), "": "reached" if good else "missed"}
    return page.Finding("Targets, for one H200 in bfloat16", cells, measured)


def _load(folder: pathlib.Path, name: str) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(f"{name}*.json")):
        result = json.loads(path.read_text())
        if result["machine"]["platform"] != "cpu":
            yield result


def _best_rate(folder: pathlib.Path, case: str) -> float | None:
    """Returns the highest bfloat16 training rate of a case, examples per second, or None."""
    rates = [
        found[f"training_{found['config']['units']}_per_s"]["median"]
        for result in _load(folder, "step")
        for found in (row["found"] for row in result["rows"])
        if found.get("case") == case and found.get("config", {}).get("dtype") == "bfloat16"
    ]
    return max(rates, default=None)


def _ratios(folder: pathlib.Path) -> Iterator[float]:
    """Yields the median ratio to compiled PyTorch of every case that ran."""
    for result in _load(folder, "peers"):
        for found in (row["found"] for row in result["rows"]):
            if "compile" in found.get("mode", "") and "ratio" in found:
                yield found["ratio"]["median"]


def main(argv: Sequence[str]) -> None:
    """Runs the command line: prints the table."""
    print(page.section(find(pathlib.Path(argv[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
