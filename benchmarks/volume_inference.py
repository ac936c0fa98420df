"""Times the prediction of whole CT volumes by overlapping windows, with an untrained network.

    python -m benchmarks.volume_inference --config=covid19_ct                      # 300 x 512 x 512
    python -m benchmarks.volume_inference --config=covid19_ct --shape=16,256,256   # on a CPU
    python -m benchmarks.volume_inference --config=covid19_ct:phantom --shape=40,160,160 --lungs
    python -m benchmarks.volume_inference --config=covid19_ct:quick --shape=9,80,80 --shape=7,90,70

From a record on the host to its mask there: resampling, windows, blending, resampling back and
thresholding. `network_seconds` is what the windows' batches take by themselves, and `outside` the
share of the rest. `mb_to_device` and `mb_to_host` are what crosses the border.

Windows are counted for the given shape and for 300 x 512 x 512. Without `--lungs` the whole volume
is lung, so that every window is predicted. With it the volume is a generated chest, cropped to the
lungs if the config says so. Only `first_seconds` includes compiling; `compiled` counts the
programs.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from unittest import mock

import jax
import numpy as np

from jaxlung.config import config_file
from jaxlung.data import record
from jaxlung.data.transforms import volumes
from jaxlung.training import system as system_lib
from jaxlung.training import train_step
from jaxlung.training.inference import volumes as volume_inference
from jaxlung.volume import window_grid
from tfds_builders.phantoms import chest_ct

WHOLE = (300, 512, 512)
CHEST_MM = (300.0, 400.0, 400.0)  # size of a generated chest, whatever its shape


def main() -> None:
    """Runs the command line; prints a line of JSON for each shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="covid19_ct")
    parser.add_argument(
        "--shape",
        action="append",
        help=f"slices,rows,columns; repeat the flag for several; default: {WHOLE}",
    )
    parser.add_argument(
        "--lungs",
        action="store_true",
        help="a generated chest in place of a volume that is all lung",
    )
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    system = system_lib.make_system(config_file.load(config_file.resolve(args.config)))
    state = system.init_state()
    shapes = [tuple(int(size) for size in text.split(",")) for text in args.shape or []]
    for shape in shapes or [WHOLE]:
        measured = measure(system, state, make_item(shape, args.lungs), args.repeats)
        settings = {"config": args.config, "lungs": args.lungs, "shape": shape}
        print(json.dumps(settings | measured), flush=True)


def make_item(shape: tuple[int, int, int], lungs: bool) -> record.VolumeRecord:
    """Returns a record of this shape: a generated chest, or noise that is all lung."""
    np_rng = np.random.default_rng(0)
    spacing_mm = tuple(mm / size for mm, size in zip(CHEST_MM, shape, strict=True))
    if lungs:
        chest = chest_ct.make(np_rng, shape, spacing_mm, 0.1)
        hu, mask = chest.image, record.LUNG * (chest.lung_mask > 0).astype(np.uint8)
    else:
        hu = np_rng.integers(-1000, 400, shape).astype(np.int16)
        mask = np.full(shape, record.LUNG, np.uint8)
    return record.VolumeRecord(
        image=hu,
        mask=mask,
        spacing_mm=spacing_mm,
        shape=shape[::-1],
        affine=np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1.0]),
        image_id="generated",
        patient_id="generated",
        group="generated",
    )


def measure(
    system: system_lib.System,
    state: train_step.TrainState,
    item: record.VolumeRecord,
    repeats: int,
) -> dict[str, object]:
    """Times `repeats` predictions after one that compiles; returns seconds and counts."""
    volume = volumes.load(item, system.settings)
    shape = volume.image.shape
    batch_size, window = system.settings.eval_batch_size, system.settings.patch_size
    within = volume.mask & record.LUNG != 0 if system.inference.inside_lungs else None
    judged = count_windows(system, shape, within)
    whole = count_windows(system, WHOLE)
    batch = {"images": np.zeros((batch_size, *window), np.int16)}
    batch["masks"] = np.ones_like(batch["images"], np.uint8)
    batch = jax.device_put(batch, system.shardings.replicated)

    def predict() -> None:
        volume_inference.mask_of(system, volume_inference.find(system, state, item))

    def network() -> None:
        for _ in range(-(-judged // batch_size)):
            probs = system.window_step(state, batch)
        jax.block_until_ready(probs)

    first, compiled = count_compiled(predict)
    to_device, to_host = count_bytes(predict)
    # In turn, so that both see the same machine.
    pairs = [(time_once(predict), time_once(network)) for _ in range(repeats)]
    seconds, alone = zip(*pairs, strict=True)
    median = statistics.median(seconds)
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "predicted_shape": shape,
        "windows": judged,
        "windows_without_lung": count_windows(system, shape) - judged,
        "seconds": round(median, 3),
        "least": round(min(seconds), 3),
        "most": round(max(seconds), 3),
        "network_seconds": round(statistics.median(alone), 3),
        "outside": round(statistics.median(1 - one / both for both, one in pairs), 3),
        "mb_to_device": round(to_device / 1e6, 1),
        "mb_to_host": round(to_host / 1e6, 1),
        "first_seconds": round(first, 1),
        "compiled": compiled,
        "windows_300x512x512": whole,
        "seconds_300x512x512_by_windows": round(median * whole / judged, 1),
    }


def count_bytes(run: Callable[[], None]) -> tuple[int, int]:
    """Returns the bytes that a call copies to devices and from them, by `jax.device_put` and `get`.

    What is on a device already is not counted.
    """
    put, get, counts = jax.device_put, jax.device_get, [0, 0]

    def size(tree: object) -> int:
        return sum(x.nbytes for x in jax.tree.leaves(tree) if isinstance(x, np.ndarray))

    def counted_put(x: object, *args: object, **kwargs: object) -> object:
        counts[0] += size(x)
        return put(x, *args, **kwargs)

    def counted_get(x: object) -> object:
        found = get(x)
        counts[1] += size(found)
        return found

    with (
        mock.patch.object(jax, "device_put", counted_put),
        mock.patch.object(jax, "device_get", counted_get),
    ):
        run()
    return counts[0], counts[1]


def count_windows(
    system: system_lib.System, shape: tuple[int, int, int], within: np.ndarray | None = None
) -> int:
    """Returns the number of windows of a volume that the network sees."""
    window = system.settings.patch_size
    starts = window_grid.starts(shape, window, system.inference.overlap)
    return len(window_grid.corners(starts, window, within))


def time_once(run: Callable[[], None]) -> float:
    """Returns the seconds of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def count_compiled(run: Callable[[], None]) -> tuple[float, int]:
    """Returns the seconds of a call, and the number of programs that it compiled."""
    events = []

    def note(event: str, seconds: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(note)
    seconds = time_once(run)
    jax.monitoring.unregister_event_duration_listener(note)
    return seconds, len(events)


if __name__ == "__main__":
    main()
