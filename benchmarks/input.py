"""Input without a network: decoding, records in memory, and both feeds to the device."""

import concurrent.futures
import dataclasses
import functools
import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks import cases, isolated, page, plan
from jaxlung.benchmark import data, loop, timing
from jaxlung.data import record
from jaxlung.data.feed import example, pipeline, stream
from jaxlung.training import system as system_lib

TABLE = "X-rays of 256 x 256 and their two masks, ready for the network"
THREADS = (1, 2, 4)
# Batches are as large as in training. The network is compiled but not measured, so it is tiny.
FIELDS = {"data.image_size": 256, "data.batch_size": 16, "data.eval_batch_size": 16}


def run(settings: plan.Plan) -> Iterator[page.Finding]:
    """Yields a row for each stage, all measured in one process."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            rates = isolated.call(
                measure,
                limit_s=settings.left(),
                folder=folder,
                num_images=settings.choose(20, 200, 300),
                seconds=settings.seconds,
            )
        except isolated.FailedError as error:
            yield page.unmeasured(TABLE, error)
            return
    for stage, each in rates.items():
        cells = {
            "stage": stage,
            "images per second": page.spread(each, ",.0f"),
        }
        yield page.Finding(TABLE, cells, {"stage": stage, "images_per_s": each})


def measure(folder: str, num_images: int, seconds: float) -> dict[str, list[float]]:
    """Measures each stage.

    Args:
        folder: folder for generated X-rays, which are prepared as a download would be.
        num_images: number of generated X-rays; about 60 % of them are for training.
        seconds: approximate time for each stage.

    Returns:
        Stage -> images per second in every repeat.
    """
    fields = FIELDS | {"data.data_dir": folder, "data.phantom_images": num_images}
    system = system_lib.make_system(cases.load("covidqu:quick", fields))
    prepared = system_lib.open_splits(cases.load("covidqu:quick", fields))["train"]
    decoded = data.InMemory(prepared[index] for index in range(len(prepared)))
    batch_size = system.settings.batch_size
    hosts = {f"prepared records, {n} threads": (prepared, n) for n in THREADS}
    hosts["records decoded in memory, 4 threads"] = (decoded, 4)
    passes = {
        name: functools.partial(_make_batches, source, system, threads)
        for name, (source, threads) in hosts.items()
    }
    times = timing.measure(passes, seconds)
    feeds = {
        "prepared records, streamed to the device": (prepared, "host"),
        "records in memory, streamed to the device": (decoded, "host"),
        "resident on the device, taken there": (decoded, "device"),
    }
    rates = {name: [batch_size / each for each in repeats] for name, repeats in times.items()}
    for name, (source, placement) in feeds.items():
        rates[name] = _measure_feed(name, _open_loop(system, source, placement), system, seconds)
    return rates


def _measure_feed(
    name: str, drawn: loop.Loop, system: system_lib.System, seconds: float
) -> list[float]:
    """Returns images per second in every repeat.

    Each of Grain's threads makes a batch, they come out together, and two per thread are kept
    ready. So as many are drawn at a time, after those that were ready before.
    """
    ready = stream.most_ready(system.settings.num_threads)
    at_once = ready - stream.AHEAD
    settle = functools.partial(drawn.draw, ready) if drawn.streams else None
    passes = {name: lambda count: drawn.draw(count * at_once)}
    times = timing.measure(passes, seconds, settle)[name]
    return [at_once * system.settings.batch_size / each for each in times]


def _make_batches(
    source: record.Source, system: system_lib.System, num_threads: int, num_batches: int
) -> None:
    """Decodes and resizes batches; nothing goes to the device."""

    def make(index: int) -> Any:
        return example.make(source[index % len(source)], system.settings)

    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        for _ in pool.map(make, range(num_batches * system.settings.batch_size)):
            pass


def _open_loop(system: system_lib.System, source: record.Source, placement: str) -> loop.Loop:
    settings = dataclasses.replace(system.settings, placement=placement)
    feed = pipeline.open_feed(source, settings, system.shardings, "train")
    return loop.Loop(system, feed, system.init_state(), 0)
