"""Ensembles of 1, 2 and 4 networks: speed, memory and compiled programs of `jaxlung predict`."""

import pathlib
import resource
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from benchmarks import cases, files, isolated, page, plan, volume_inference
from jaxlung.benchmark import timing
from jaxlung.config import workdir
from jaxlung.predict import ensemble, inputs, network, settings
from jaxlung.training import checkpoint, trained
from jaxlung.training import system as system_lib

TABLE = "Ensembles of untrained networks of one config, from PNGs to masks"
COUNTS = (1, 2, 4)
# Config, fields, number of files, their height and width in pixels.
CASES = (
    ("cxr_lungs:quick", {}, 8, 64),
    ("cxr_lungs", {"data.image_size": 128, "model.border": 4}, 32, 256),
    ("covidqu", {"model.dtype": "bfloat16"}, 2_000, 256),
)


def run(settings: plan.Plan) -> Iterator[page.Finding]:
    """Yields a row for each number of networks."""
    config, fields, num_files, side = settings.choose(*CASES)
    case = {"config": config, "files": num_files, "side": side}
    with tempfile.TemporaryDirectory() as folder:
        try:
            isolated.call(
                prepare,
                limit_s=settings.left(),
                **dict(folder=folder, config=config, fields=fields, num_files=num_files, side=side),
            )
            rates = isolated.call(
                measure, limit_s=settings.left(), folder=folder, seconds=settings.seconds
            )
            for count in COUNTS:
                first = isolated.call(
                    measure_first, limit_s=settings.left(), folder=folder, count=count
                )
                yield _row(case, count, rates, first)
        except isolated.FailedError as error:
            yield page.unmeasured(TABLE, error)


def _row(
    case: Mapping[str, Any],
    count: int,
    rates: Mapping[str, Sequence[float]],
    first: Mapping[str, Any],
) -> page.Finding:
    mine = rates[str(count)]
    times = [one / each for one, each in zip(rates[str(COUNTS[0])], mine, strict=True)]
    cells = {
        case["config"]: f"{count} network{'s' * (count > 1)}",
        "files": f"{case['files']:,} of {case['side']} x {case['side']}",
        "files per second": page.spread(mine, ".3g"),
        "time, of one network's": page.spread(times, ".2f"),
        "memory, GiB": f"{first['bytes'] / 2**30:.2f} ({first['where']})",
        "programs": str(first["programs"]),
        "first time, s": f"{first['seconds']:.1f}",
    }
    numbers = {**case, **first, "count": count, "files_per_s": mine, "time_ratio": times}
    return page.Finding(TABLE, cells, numbers)


def prepare(folder: str, config: str, fields: Mapping[str, Any], num_files: int, side: int) -> None:
    """Writes what the other functions read: runs with fresh weights, one a seed, and pictures.

    Args:
        folder: an empty folder.
        config: name of the config of all networks.
        fields: changes of the config, as in `cases.load`.
        num_files: number of PNGs.
        side: height and width of the PNGs, pixels.
    """
    for seed in range(max(COUNTS)):
        loaded = trained.fit_to_machine(cases.load(config, {**fields, "seed": seed}))
        path = epath.Path(folder) / f"run_{seed}"
        workdir.open_for(loaded, path)
        with checkpoint.open_manager(path) as manager:
            checkpoint.save(manager, system_lib.make_system(loaded).init_state(), {}, 0.0)
        (path / "finished.txt").write_text("0\n")
    files.write_pictures(pathlib.Path(folder) / "in", num_files, side)


def measure(folder: str, seconds: float) -> dict[str, list[float]]:
    """Measures ensembles in turn; returns files per second in every repeat by number of networks.

    Args:
        folder: see `prepare`.
        seconds: approximate time for all repeats of each.
    """
    passes = {str(count): _load(folder, count) for count in COUNTS}
    num_files = len(list((pathlib.Path(folder) / "in").iterdir()))
    times = timing.measure(passes, seconds)
    return {count: [num_files / each for each in repeats] for count, repeats in times.items()}


def measure_first(folder: str, count: int) -> dict[str, Any]:
    """Measures an ensemble in a process of its own, from loading its networks to all masks.

    Args:
        folder: see `prepare`.
        count: number of networks.

    Returns:
        "seconds"; "programs", how many JAX compiled or took from the cache; "bytes", the most
        memory in use: "where" says whether that is of a "device" or, if it doesn't tell, of the
        "process".
    """
    seconds, programs = volume_inference.count_compiled(lambda: _load(folder, count)(1))
    told = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    most = told or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    where = "device" if told else "process"
    return {"seconds": seconds, "programs": programs, "bytes": most, "where": where}


def _load(folder: str, count: int) -> Callable[[int], None]:
    """Loads an ensemble; returns a function that predicts all pictures a number of times."""
    place = pathlib.Path(folder)
    team = ensemble.gather(network.load_all(place / f"run_{seed}" for seed in range(count)))
    items, options = inputs.find(str(place / "in")), settings.Options(place / f"out_{count}")

    def predict(num_passes: int) -> None:
        for _ in range(num_passes):
            files.predict_all(items, team, options)

    return predict
