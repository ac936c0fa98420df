"""What comes in, without a network: decoding, records in memory, and both feeds to the device."""

import concurrent.futures
import dataclasses
import functools
import statistics
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
# The feed is asked for batches as in training; the network beside it, which is compiled but not
# measured, is as small as can be.
FIELDS = {"data.image_size": 256, "data.batch_size": 16, "data.eval_batch_size": 16}


def run(settings: plan.Plan) -> Iterator[page.Finding]:
    """A row for each stage, from one process."""
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
            yield page.Finding(TABLE, {"stage": f"not measured: {error}"}, {"error": str(error)})
            return
    for stage, each in rates.items():
        cells = {
            "stage": stage,
            "images per second": f"{statistics.median(each):,.0f} ({min(each):,.0f} to "
            f"{max(each):,.0f})",
        }
        yield page.Finding(TABLE, cells, {"stage": stage, "images_per_s": each})


def measure(folder: str, num_images: int, seconds: float) -> dict[str, list[float]]:
    """Images per second of every repeat, by stage.

    Args:
        folder: gets so many generated X-rays, prepared as a download would be.
        num_images: see there; about 60 % are for training.
        seconds: of each stage.
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
    """Images per second of every repeat.

    Grain's threads make a batch each, which come out together, and two for each thread are kept
    ready: so many are drawn at a time, and first those that were made ready meanwhile.
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
    """Decodes and resizes; nothing goes to the device."""

    def make(index: int) -> Any:
        return example.make(source[index % len(source)], system.settings)

    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        for _ in pool.map(make, range(num_batches * system.settings.batch_size)):
            pass


def _open_loop(system: system_lib.System, source: record.Source, placement: str) -> loop.Loop:
    settings = dataclasses.replace(system.settings, placement=placement)
    feed = pipeline.open_feed(source, settings, system.shardings, "train")
    return loop.Loop(system, feed, system.init_state(), 0)
