"""The training of Nguyen Xuan Minh Vu, a few of its epochs: how long would all 100 take?

    python -m benchmarks.epochs --out=epochs.json                       # an accelerator
    python -m benchmarks.epochs --quick

Trains as `jaxlung.main` does, checkpoints and validation included, on 3,728 generated images (932
more to validate) of 256 x 256 in memory. The first epoch holds start-up and compilation; the time
of the later ones, to the end of each one's validation, is what 100 are reckoned from.
"""

import argparse
import json
import logging as std_logging
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from absl import logging
from etils import epath

from benchmarks import cases, machine
from jaxlung.benchmark import data
from jaxlung.data.sources import derived
from jaxlung.host import compile_cache
from jaxlung.training import loop as train
from jaxlung.training import system as system_lib

NUM_TRAIN, NUM_VALIDATION = 3728, 932  # COVID-QU-Ex, infection
EPOCHS = 100  # the paper's


class EpochEnds(std_logging.Handler):
    """When the lines came that end epochs, seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def emit(self, record: std_logging.LogRecord) -> None:
        """Notes the time of a line that ends an epoch."""
        if str(record.msg).startswith("epoch %d of"):
            self.times.append(time.perf_counter())


def measure(
    config: str, fields: dict[str, Any], num_images: tuple[int, int], epochs: int
) -> dict[str, Any]:
    """Trains for a few epochs.

    Args:
        config: with `fields`, the run.
        fields: dotted field -> value.
        num_images: to train and to validate on.
        epochs: 2 or more.

    Returns:
        "first_epoch_seconds", with start-up; "epoch_seconds" of the later ones with validation and
        checkpoint; "images_per_s" over these; "minutes_of_100_epochs"; and what was trained.
    """
    loaded = cases.load(config, {**fields, "epochs": epochs})
    settings = system_lib.make_system(loaded).settings
    source = data.generate(settings)
    splits = {
        name: derived.Subset(source, [index % len(source) for index in range(count)])
        for name, count in zip(("train", "validation"), num_images, strict=True)
    }
    ends = EpochEnds()
    logging.get_absl_logger().addHandler(ends)
    logging.set_verbosity(logging.INFO)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train.train(loaded, epath.Path(folder) / "run", splits)
    seconds = [end - start for start, end in zip(ends.times, ends.times[1:], strict=False)]
    first = ends.times[0] - begin
    later = statistics.median(seconds)
    return {
        "config": config,
        "batch_size": settings.batch_size,
        "dtype": loaded.model.dtype,
        "images": list(num_images),
        "first_epoch_seconds": first,
        "epoch_seconds": seconds,
        "images_per_s": num_images[0] / later,
        f"minutes_of_{EPOCHS}_epochs": (first + (EPOCHS - 1) * later) / 60,
    }


def main(argv: Sequence[str]) -> None:
    """Prints what was found; also into a file."""
    parser = argparse.ArgumentParser("benchmarks.epochs", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny images, few of them")
    parser.add_argument("--batch_size", type=int, default=16, help="the paper's is 16")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--epochs", type=int, default=3, help="2 or more")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    args = parser.parse_args(argv)
    if args.epochs < 2:
        parser.error(f"--epochs: got {args.epochs}, want 2 or more.")
    compile_cache.use(os.environ)
    if args.quick:
        found = measure("covidqu:quick", {}, (64, 16), args.epochs)
    else:
        fields = {"data.batch_size": args.batch_size, "model.dtype": args.dtype}
        found = measure("covidqu", fields, (NUM_TRAIN, NUM_VALIDATION), args.epochs)
    found["machine"] = machine.describe()
    text = json.dumps(found)
    if args.out:
        args.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
