"""Suites that are commands of their own: many devices, peers, layer forms."""

import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import isolated, page, plan
from benchmarks.peers import cases as peer_cases

SCALING = "What meshes of devices send in a training step"
PEERS = "jaxlung beside PyTorch, in turn on the same machine"
LAYERS = "Forms of layers"
# What matters most is first, should time run out.
ACCELERATOR_PEERS = (
    "000_256_b64",
    "004_128x128x128_b2",
    "000_256_b16",
    "000_256_b256",
    "004_8x128x128_b5",
    "002_512_b16",
    "003_256_b32",
    "monai_basic_256_b64",
)


def scaling(settings: plan.Plan) -> Iterator[page.Finding]:
    """`benchmarks.scaling`, over images and over volumes."""
    arguments = settings.choose(
        [["--config=covidqu:quick", "--meshes=1x1,2x1"]],
        [["--config=covidqu:phantom"], ["--config=covid19_ct:phantom"]],
        [["--config=covidqu"], ["--config=covidqu", "--weak"]],
    )
    for each in arguments:
        yield from _markdown_and_json(f"{SCALING}: `{' '.join(each)}`", "scaling", each, settings)


def layers(settings: plan.Plan) -> Iterator[page.Finding]:
    """`benchmarks.layers`."""
    arguments = [f"--seconds={settings.seconds}", *["--quick"] * settings.quick]
    yield from _markdown_and_json(LAYERS, "layers", arguments, settings)


def peers(settings: plan.Plan) -> Iterator[page.Finding]:
    """`benchmarks.peers.run`, a call for each case, so that what is known is kept."""
    asked = [settings.torch_python or sys.executable, "-c", "import torch"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        missing = isolated.FailedError("no PyTorch here; give --torch_python=PATH/TO/python")
        yield _failed(PEERS, missing)
        return
    names = settings.choose(["000_64_b8"], peer_cases.CPU_CASES, ACCELERATOR_PEERS)
    for name in names:
        try:
            rows = _measure_peers(name, settings)
        except isolated.FailedError as error:
            yield _failed(PEERS, error, f"{name}: ")
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
        f"{label} per second": "{median:,.1f} ({least:,.1f} to {most:,.1f})".format(**row[side])
        for side, label in (("jax", "jaxlung"), ("torch", "PyTorch"))
    }
    ratio = "{median:.2f} ({least:.2f} to {most:.2f})".format(**row["ratio"])
    return cells | spread | {"jaxlung / PyTorch": ratio}


def _markdown_and_json(
    table: str, name: str, arguments: list[str], settings: plan.Plan
) -> Iterator[page.Finding]:
    """What a module of this folder prints: Markdown, then a line of JSON."""
    try:
        text = isolated.run(f"benchmarks.{name}", arguments, settings.left())
    except isolated.FailedError as error:
        yield _failed(table, error)
        return
    markdown, _, line = text.strip().rpartition("\n")
    yield page.Finding(table, text=markdown, numbers=json.loads(line))


def _failed(table: str, error: isolated.FailedError, what: str = "") -> page.Finding:
    return page.Finding(table, text=f"{what}not measured: {error}", numbers={"error": str(error)})
