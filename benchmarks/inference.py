"""Prediction: X-rays in batches of several sizes, whole CT volumes, and folders of files."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from benchmarks import cases, files, isolated, page, plan
from jaxlung.benchmark import data, timing
from jaxlung.data.feed import order, pipeline
from jaxlung.training import system as system_lib
from jaxlung.training.inference import images as image_inference

XRAYS = "X-rays, network and scores of every image"
VOLUMES = "CT volumes by overlapping windows, untrained network"
FILES = "Files, from PNGs to masks as in `jaxlung predict`, and decoding alone"
BATCH_SIZES = (1, 8, 32)
ENDLESS = 10**9  # images

QUICK = ("covidqu:quick", {})
CPU = ("covidqu:phantom", {})
ACCELERATOR = ("covidqu", {"model.dtype": "bfloat16"})
SLIM = {"data.image_size": 256, "model.border": 8}
# Config, fields, number of files, their height and width in pixels.
FILE_CASES = (
    ("cxr_lungs:quick", {}, 20, 64),
    ("cxr_lungs", SLIM, 300, 256),
    ("covidqu", {"model.dtype": "bfloat16"}, 10_000, 256),
)
VOLUME_CASES = (
    ["--config=covid19_ct:quick", "--shape=9,40,40", "--repeats=1"],
    ["--config=covid19_ct:phantom", "--shape=24,128,128", "--lungs"],
    ["--config=covid19_ct", "--lungs"],
)


def run(settings: plan.Plan) -> Iterator[page.Finding]:
    """Yields a row for each batch size, one for a volume and one for a folder."""
    yield from _xrays(settings)
    yield from _volumes(settings)
    yield from _files(settings)


def _xrays(settings: plan.Plan) -> Iterator[page.Finding]:
    config, fields = settings.choose(QUICK, CPU, ACCELERATOR)
    try:
        found = isolated.call(
            measure,
            limit_s=settings.left(),
            config=config,
            fields=fields,
            batch_sizes=BATCH_SIZES,
            seconds=settings.seconds,
        )
    except isolated.FailedError as error:
        yield page.unmeasured(XRAYS, error)
        return
    for size in BATCH_SIZES:
        if f"network, {size}" not in found:
            continue
        rates = {what: found[f"{what}, {size}"] for what in ("network", "and to the host")}
        cells = {config: f"batch {size}"} | {
            f"{what}, images per second": page.spread(each, ",.1f") for what, each in rates.items()
        }
        yield page.Finding(XRAYS, cells, {"batch_size": size, "images_per_s": rates})


def measure(
    config: str, fields: Mapping[str, Any], batch_sizes: Sequence[int], seconds: float
) -> dict[str, list[float]]:
    """Measures evaluation with several batch sizes in turn.

    Returns:
        Images per second in every repeat. "network, B" is for batches of B that are on the device;
        "and to the host, B" includes their transfer and fetching all results, as in evaluation.
    """
    # Devices share a batch, so its size must be a multiple of their number.
    sizes = [size for size in batch_sizes if size % jax.device_count() == 0]
    passes = {}
    for size in sizes:
        loaded = cases.load(config, {"data.eval_batch_size": size, **fields})
        passes |= _passes(loaded, size)
    times = timing.measure(passes, seconds)
    return {
        name: [int(name.rpartition(" ")[2]) / each for each in repeats]
        for name, repeats in times.items()
    }


def _passes(config: Any, size: int) -> dict[str, Callable[[int], None]]:
    system = system_lib.make_system(config)
    source, _ = data.open_source(config, system.settings)
    feed = pipeline.open_feed(source, system.settings, system.shardings, "test")
    state, record_at = system.init_state(), order.shuffled(0, len(source))
    batch = next(feed.batches(record_at, size, 1))

    def network(num_batches: int) -> None:
        for _ in range(num_batches):
            outputs = system.eval_step(state, batch)
        jax.block_until_ready(outputs)

    # A single evaluation without end, because each evaluation compiles again.
    predicted = image_inference.predict(system, state, feed, record_at, ENDLESS)

    def predict(num_batches: int) -> None:
        for _ in itertools.islice(predicted, num_batches * size):
            pass

    return {f"network, {size}": network, f"and to the host, {size}": predict}


def _volumes(settings: plan.Plan) -> Iterator[page.Finding]:
    arguments = settings.choose(*VOLUME_CASES)
    try:
        text = isolated.run("benchmarks.volume_inference", arguments, settings.left())
    except isolated.FailedError as error:
        yield page.unmeasured(VOLUMES, error)
        return
    for line in text.splitlines():
        found = json.loads(line)
        cells = {
            "config": found["config"],
            "volume": " x ".join(map(str, found["shape"])),
            "lungs' box": " x ".join(map(str, found["predicted_shape"])) if found["lungs"] else "",
            "windows": f"{found['windows']} ({found['windows_without_lung']} left out)",
            "seconds": f"{found['seconds']:.2f} ({found['least']:.2f} to {found['most']:.2f})",
            "outside the network": f"{100 * found['outside']:.0f} %",
            "MB to the device, back": f"{found['mb_to_device']:,.0f}, {found['mb_to_host']:,.1f}",
            "first one, s": f"{found['first_seconds']:.1f}",
        }
        yield page.Finding(VOLUMES, cells, found)


def _files(settings: plan.Plan) -> Iterator[page.Finding]:
    config, fields, num_files, side = settings.choose(*FILE_CASES)
    arguments = dict(config=config, fields=fields, num_files=num_files, side=side)
    try:
        found = isolated.call(
            files.measure, limit_s=settings.left(), seconds=settings.seconds, **arguments
        )
    except isolated.FailedError as error:
        yield page.unmeasured(FILES, error)
        return
    ratios = [one / other for one, other in zip(found["predict"], found["decode"], strict=True)]
    cells = {"config": config, "files": f"{num_files:,} of {side} x {side}"}
    cells |= {f"{name}, files per second": page.spread(each, ".3g") for name, each in found.items()}
    cells["predict / decode"] = page.spread(ratios, ".3g")
    yield page.Finding(FILES, cells, arguments | {"files_per_s": found})
