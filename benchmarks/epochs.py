"""Times a few epochs of the training of Nguyen Xuan Minh Vu and estimates the time of all 100.

    python -m benchmarks.epochs                       # an accelerator
    python -m benchmarks.epochs --quick

Trains as `jaxlung train` does, with checkpoints and validation, on 3,728 generated images of
256 x 256 in memory, and validates on 932 more. The first epoch includes start-up and compilation.
The estimate comes from the later ones, each up to the end of its validation. When an epoch ends it
is printed as a line of JSON; the last line has the estimate.
"""

import argparse
import itertools
import json
import logging as std_logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from absl import logging
from etils import epath

from benchmarks import cases, goals, machine
from jaxlung.benchmark import data
from jaxlung.data.sources import derived
from jaxlung.host import compile_cache
from jaxlung.training import loop as train
from jaxlung.training import system as system_lib

NUM_VALIDATION = 932  # COVID-QU-Ex, infection, as `goals.TRAINING_IMAGES`


class EpochEnds(std_logging.Handler):
    """The times of the log lines that end epochs; prints each.

    Attributes:
        times: seconds; first the time of the start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.times = [time.perf_counter()]

    def emit(self, record: std_logging.LogRecord) -> None:
        """Notes the time of a line that ends an epoch."""
        if str(record.msg).startswith("epoch %d of"):
            self.times.append(time.perf_counter())
            found = {"epoch": len(self.times) - 1, "seconds": self.times[-1] - self.times[-2]}
            print(json.dumps(found), flush=True)


def measure(
    config: str, fields: dict[str, Any], num_images: tuple[int, int], epochs: int
) -> dict[str, Any]:
    """Trains for a few epochs.

    Args:
        config: name of a shipped config.
        fields: dotted field of the config -> value.
        num_images: numbers of training and of validation images.
        epochs: number of epochs, 2 or more.

    Returns:
        "first_epoch_seconds", with start-up; "epoch_seconds" of the later epochs, with validation
        and checkpoint; "images_per_s" in these; "minutes_of_100_epochs"; and the settings.
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
    with tempfile.TemporaryDirectory() as folder:
        train.train(loaded, epath.Path(folder) / "run", splits)
    first, *seconds = [end - start for start, end in itertools.pairwise(ends.times)]
    later = statistics.median(seconds)
    return {
        "config": config,
        "batch_size": settings.batch_size,
        "dtype": loaded.model.dtype,
        "images": list(num_images),
        "first_epoch_seconds": first,
        "epoch_seconds": seconds,
        "images_per_s": num_images[0] / later,
        f"minutes_of_{goals.EPOCHS}_epochs": (first + (goals.EPOCHS - 1) * later) / 60,
    }


def main(argv: Sequence[str]) -> None:
    """Runs the command line; prints each epoch, then the result."""
    parser = argparse.ArgumentParser("benchmarks.epochs", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few tiny images")
    parser.add_argument("--batch_size", type=int, default=16, help="the paper's is 16")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--epochs", type=int, default=3, help="2 or more")
    args = parser.parse_args(argv)
    if args.epochs < 2:
        parser.error(f"--epochs: got {args.epochs}, want 2 or more.")
    compile_cache.use(os.environ)
    if args.quick:
        found = measure("covidqu:quick", {}, (64, 16), args.epochs)
    else:
        fields = {"data.batch_size": args.batch_size, "model.dtype": args.dtype}
        found = measure("covidqu", fields, (goals.TRAINING_IMAGES, NUM_VALIDATION), args.epochs)
    found["machine"] = machine.describe()
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
