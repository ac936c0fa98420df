"""Seconds to predict a whole CT volume by overlapping windows, with an untrained network.

    python -m benchmarks.volume_inference --config=covid19_ct                      # 300 x 512 x 512
    python -m benchmarks.volume_inference --config=covid19_ct --shape=16,256,256   # on a CPU

The time is proportional to the number of windows, which is printed for the shape and for
300 x 512 x 512. Compiling is not in it.
"""

import argparse
import json
import statistics
import time

import jax
import numpy as np

from jaxlung import config_file
from jaxlung import system as system_lib
from jaxlung.data import record, volumes
from jaxlung.inference import volumes as volume_inference
from jaxlung.volume import sliding_window

WHOLE = (300, 512, 512)


def measure(config_name: str, shape: tuple[int, int, int], repeats: int) -> dict[str, object]:
    """Times `repeats` predictions after one that compiles; median, least and most, in seconds."""
    config = config_file.load(config_file.resolve(config_name))
    system = system_lib.make_system(config)
    state = system.init_state()
    hu = np.random.default_rng(0).integers(-1000, 400, shape).astype(np.int16)
    mask = np.full(shape, record.LUNG, np.uint8)
    volume = volumes.Volume(hu, mask, (slice(None),) * 3, shape)
    overlap = system.inference.overlap
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        volume_inference.predict(system, state, volume, overlap=overlap, mirror=False)
        seconds.append(time.perf_counter() - start)
    window = system.settings.patch_size
    here, whole = (sliding_window.num_windows(x, window, overlap) for x in (shape, WHOLE))
    median = statistics.median(seconds[1:])
    return {
        "config": config_name,
        "device": jax.devices()[0].device_kind,
        "shape": shape,
        "windows": here,
        "seconds": round(median, 3),
        "least": round(min(seconds[1:]), 3),
        "most": round(max(seconds[1:]), 3),
        "first_seconds": round(seconds[0], 1),
        "windows_300x512x512": whole,
        "seconds_300x512x512_by_windows": round(median * whole / here, 1),
    }


def main() -> None:
    """Reads the command line and prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="covid19_ct")
    parser.add_argument("--shape", default=",".join(map(str, WHOLE)), help="slices,rows,columns")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    shape = tuple(int(size) for size in args.shape.split(","))
    print(json.dumps(measure(args.config, shape, args.repeats)))


if __name__ == "__main__":
    main()
