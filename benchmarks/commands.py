"""Suites that are commands of their own: many devices, peers, layer forms."""

import json
import pathlib
import tempfile
from collections.abc import Iterator

from benchmarks import isolated, page, plan

SCALING = "What meshes of devices send in a training step"
PEERS = "jaxlung beside PyTorch, in turn on the same machine"
LAYERS = "Forms of layers"


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
    yield from _markdown_and_json(LAYERS, "layers", ["--quick"] * settings.quick, settings)


def peers(settings: plan.Plan) -> Iterator[page.Finding]:
    """`benchmarks.peers.run`."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "peers.json"
        arguments = [f"--out={out}", f"--seconds={settings.seconds}"]
        if settings.torch_python:
            arguments.append(f"--torch_python={settings.torch_python}")
        if settings.quick:
            arguments += ["--cases=000_64_b8", "--modes=eager", "--repeats=1"]
        try:
            text = isolated.run("benchmarks.peers.run", arguments, settings.left())
        except isolated.FailedError as error:
            yield _failed(PEERS, error)
            return
        yield page.Finding(PEERS, text=text, numbers=json.loads(out.read_text()))


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


def _failed(table: str, error: isolated.FailedError) -> page.Finding:
    return page.Finding(table, text=f"Not measured: {error}.", numbers={"error": str(error)})
