"""Prediction on files: reading, network and writing as in `jaxlung predict`; and decoding alone."""

import concurrent.futures
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from benchmarks import cases
from jaxlung.benchmark import timing
from jaxlung.predict import ensemble, inputs, network, picture_work, runner, settings
from jaxlung.training import system as system_lib
from jaxlung.training import trained
from tfds_builders.phantoms import chest_xray

NUM_THREADS = 4  # as in `runner.predict`
NUM_PHANTOMS = 20  # different X-rays


def measure(
    config: str, fields: Mapping[str, Any], num_files: int, side: int, seconds: float
) -> dict[str, list[float]]:
    """Measures prediction and decoding in turn.

    Args:
        config: name of the config of the network, which is not trained.
        fields: changes of the config, as in `cases.load`.
        num_files: number of PNGs in a folder.
        side: height and width of the PNGs, pixels.
        seconds: approximate time for all repeats of each.

    Returns:
        Files per second in every repeat. "predict" goes from PNGs to masks, without the start of
        the command. "decode" is Pillow alone, to the network's size, in as many threads.
    """
    net = _untrained(config, fields)
    with tempfile.TemporaryDirectory() as folder:
        source, options = pathlib.Path(folder, "in"), settings.Options(pathlib.Path(folder, "out"))
        write_pictures(source, num_files, side)
        items, team = inputs.find(str(source)), ensemble.gather([net])

        def predict(num_passes: int) -> None:
            for _ in range(num_passes):
                predict_all(items, team, options)

        def decode(num_passes: int) -> None:
            with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
                for _ in range(num_passes):
                    list(pool.map(lambda item: _decode(item.path, net), items))

        times = timing.measure({"predict": predict, "decode": decode}, seconds)
    return {name: [num_files / each for each in repeats] for name, repeats in times.items()}


def _untrained(config: str, fields: Mapping[str, Any]) -> network.Network:
    loaded = trained.fit_to_machine(cases.load(config, fields))
    system = system_lib.make_system(loaded)
    return network.make(trained.Trained(epath.Path(config), loaded, system, system.init_state()))


def predict_all(
    items: Sequence[inputs.Item], team: ensemble.Team, options: settings.Options
) -> None:
    """Predicts pictures as `jaxlung predict` does; raises ValueError if one of them fails."""
    jobs = runner.predict(items, picture_work, team, options, lambda: False)
    errors = [job.error for job in jobs if job.error]
    if errors:
        raise ValueError(errors[0])


def write_pictures(folder: pathlib.Path, num_files: int, side: int) -> None:
    """Writes phantoms; each is used several times, shifted by one more column every time."""
    folder.mkdir()
    phantoms = [
        chest_xray.make(np.random.default_rng(i), side, "none").image for i in range(NUM_PHANTOMS)
    ]
    for i in range(num_files):
        image = np.roll(phantoms[i % NUM_PHANTOMS], i // NUM_PHANTOMS, axis=1)
        Image.fromarray(image).save(folder / f"{i}.png")


def _decode(path: pathlib.Path, net: network.Network) -> np.ndarray:
    size = net.system.settings.image_size
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((size, size), Image.Resampling.BILINEAR))
