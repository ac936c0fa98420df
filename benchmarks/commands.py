"""Suites that run other commands of this folder: many devices, peers, forms of layers."""

import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import isolated, page, plan
from benchmarks import layers as layer_rows
from benchmarks.peers import cases as peer_cases

SCALING = "Data that meshes of devices send in a training step"
PEERS = "jaxlung beside PyTorch, in turn on the same machine"
LAYERS = f"Forms of layers. {layer_rows.HOW}"


def scaling(settings: plan.Plan) -> Iterator[page.Finding]:
    """Runs `benchmarks.scaling` on images and on volumes."""
    arguments = settings.choose(
        [["--config=covidqu:quick", "--meshes=1x1,2x1"]],
        [["--config=covidqu:phantom"], ["--config=covid19_ct:phantom"]],
        [["--config=covidqu"], ["--config=covidqu", "--weak"]],
    )
    for each in arguments:
        yield from _markdown_and_json(f"{SCALING}: `{' '.join(each)}`", "scaling", each, settings)


def layers(settings: plan.Plan) -> Iterator[page.Finding]:
    """Runs `benchmarks.layers`."""
    arguments = ["--json", f"--seconds={settings.seconds}", *["--quick"] * settings.quick]
    try:
        for line in isolated.lines("benchmarks.layers", arguments, settings.left()):
            row = json.loads(line)
            yield page.Finding(LAYERS, layer_rows.cells(row), row)
    except isolated.FailedError as error:
        yield page.unmeasured(LAYERS, error)


def peers(settings: plan.Plan) -> Iterator[page.Finding]:
    """Runs `benchmarks.peers.run` once for each case, so that a failure loses one case only."""
    asked = [settings.torch_python or sys.executable, "-c", "import torch"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        missing = isolated.FailedError("no PyTorch here; give --torch_python=PATH/TO/python")
        yield page.unmeasured(PEERS, missing)
        return
    names = settings.choose(["covidqu_64_b8"], peer_cases.CPU_CASES, peer_cases.GPU_CASES)
    for name in names:
        try:
            rows = _measure_peers(name, settings)
        except isolated.FailedError as error:
            yield page.unmeasured(PEERS, error, name)
            continue
        for row in rows:
            yield page.Finding(PEERS, _peer_cells(row), row)


def _measure_peers(name: str, settings: plan.Plan) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "peers.json"
        arguments = [f"--cases={name}", f"--out={out}", f"--seconds={settings.seconds}"]
        if settings.torch_python:
            arguments.append(f"--torch_python={settings.torch_python}")
        if settings.quick:
            arguments += ["--modes=eager", "--repeats=1"]
        isolated.run("benchmarks.peers.run", arguments, settings.left())
        return json.loads(out.read_text())["rows"]


def _peer_cells(row: Mapping[str, Any]) -> dict[str, str]:
    cells = {"case": row["case"], "PyTorch": row["mode"]}
    if "error" in row:
        return cells | {"jaxlung / PyTorch": f"not measured: {row['error']}"}
    spread = {
        f"{label} per second": page.with_range(**row[side], spec=",.1f")
        for side, label in (("jax", "jaxlung"), ("torch", "PyTorch"))
    }
    return cells | spread | {"jaxlung / PyTorch": page.with_range(**row["ratio"], spec=".2f")}


def _markdown_and_json(
    table: str, name: str, arguments: list[str], settings: plan.Plan
) -> Iterator[page.Finding]:
    """Runs a module of this folder that prints Markdown and then a line of JSON."""
    try:
        text = isolated.run(f"benchmarks.{name}", arguments, settings.left())
    except isolated.FailedError as error:
        yield page.unmeasured(table, error)
        return
    markdown, _, line = text.strip().rpartition("\n")
    yield page.Finding(table, text=markdown, numbers=json.loads(line))
