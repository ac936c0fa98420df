"""Training as a whole: the cost of input and host beside the step, start-up, forms of the step."""

import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import cases, isolated, page, plan, step
from jaxlung.benchmark import data, dry_run, loop, timing
from jaxlung.data.feed import pipeline
from jaxlung.training import system as system_lib

GAP = "The step alone and training, with images on the device or streamed from prepared records"
FORMS_TABLE = (
    "Forms of the step, in turn with the plain one, which has 1 step per dispatch and nothing else"
)
START = "Start-up to the first step, in seconds, without and with programs compiled before"
WHOLE = "The whole job `covidqu:quick` on prepared data: train, evaluate, report"

BFLOAT16 = {"model.dtype": "bfloat16"}
QUICK = ("covidqu:quick", {})
CPU = ("covidqu:phantom", {})
ACCELERATOR = ("covidqu", {"data.batch_size": 64, **BFLOAT16})
FORMS = {
    "10 steps per dispatch": {"step.steps_per_dispatch": 10},
    "remat": {"step.remat": True},
    "2 microbatches": {"step.microbatches": 2},
    "4 microbatches": {"step.microbatches": 4},
    "remat, 4 microbatches": {"step.remat": True, "step.microbatches": 4},
}
QUICK_FORMS = {"remat": FORMS["remat"]}


def run(settings: plan.Plan) -> Iterator[page.Finding]:
    """Yields the rows of all tables; a failed measurement is a text with its reason."""
    config, fields = settings.choose(QUICK, CPU, ACCELERATOR)
    with tempfile.TemporaryDirectory() as folder:
        data = {"data.data_dir": folder, "data.phantom_images": settings.choose(20, 200, 300)}
        yield from _gaps(settings, config, fields | data)
        yield from _forms(settings, config, fields)
        yield from _starts(settings, config, fields)
        yield from _whole_jobs(settings, folder)


def _gaps(settings: plan.Plan, config: str, fields: Mapping[str, Any]) -> Iterator[page.Finding]:
    """Prepares the data, then yields a row for each placement."""
    try:
        isolated.call(prepare, limit_s=settings.left(), config=config, fields=dict(fields))
    except isolated.FailedError as error:
        yield page.unmeasured(GAP, error, "data")
        return
    for placement in ("device", "host"):
        try:
            found = isolated.call(
                step.measure,
                limit_s=settings.left(),
                config=config,
                fields={**fields, "data.placement": placement},
                seconds=settings.seconds,
            )
        except isolated.FailedError as error:
            yield page.unmeasured(GAP, error, placement)
            continue
        rates = {name: found[f"{name}_images_per_s"] for name in ("input", "step", "training")}
        cells = {
            f"{config}, images on the": placement,
            "batch": str(found["config"]["batch_size"]),
            "steps per dispatch": str(found["config"]["steps_per_dispatch"]),
            **{
                name: page.with_range(each["median"], each["min"], each["max"], ",.1f")
                for name, each in rates.items()
            },
            "training behind step": f"{found['gap_percent']:.1f} %",
        }
        yield page.Finding(GAP, cells, found)


def prepare(config: str, fields: Mapping[str, Any]) -> int:
    """Prepares a config's data; returns the number of training records."""
    return len(system_lib.open_splits(cases.load(config, fields))["train"])


def _forms(settings: plan.Plan, config: str, fields: Mapping[str, Any]) -> Iterator[page.Finding]:
    """Yields a row for each form, measured in one process with the plain form."""
    plain = {"step.steps_per_dispatch": 1, **fields}
    with tempfile.TemporaryDirectory() as cache:  # The plain form is compiled only once.
        for name, changes in settings.choose(QUICK_FORMS, FORMS, FORMS).items():
            try:
                found = isolated.call(
                    compare,
                    limit_s=settings.left(),
                    environ={"JAX_COMPILATION_CACHE_DIR": cache},
                    config=config,
                    variants={"plain": plain, "form": {**plain, **changes}},
                    seconds=settings.seconds,
                )
            except isolated.FailedError as error:
                yield page.unmeasured(FORMS_TABLE, error, name)
            else:
                cells = {config: name, **_form_cells(**found)}
                yield page.Finding(FORMS_TABLE, cells, {"name": name, **found})


def _form_cells(plain: Mapping[str, Any], form: Mapping[str, Any]) -> dict[str, str]:
    pairs = zip(form["seconds"], plain["seconds"], strict=True)
    ratios = [own / other for own, other in pairs]
    return {
        "ms per step": f"{1e3 * statistics.median(form['seconds']):,.1f}",
        "plain": f"{1e3 * statistics.median(plain['seconds']):,.1f}",
        "ratio": page.spread(ratios, ".2f"),
        "planned memory, MiB": f"{form['memory_bytes'] / 2**20:,.0f}",
        "plain, MiB": f"{plain['memory_bytes'] / 2**20:,.0f}",
    }


def compare(
    config: str, variants: Mapping[str, Mapping[str, Any]], seconds: float
) -> dict[str, dict[str, Any]]:
    """Measures the steps of several variants of a config in turn.

    Returns:
        Name -> "seconds" per step in every repeat, and "memory_bytes" of a device for one
        dispatch, as the compiler plans them.
    """
    loops = {name: _open_loop(cases.load(config, fields)) for name, fields in variants.items()}
    times = timing.measure({name: each.step for name, each in loops.items()}, seconds)
    return {
        name: {
            "seconds": [dispatch / each.num_steps for dispatch in times[name]],
            "memory_bytes": dry_run.memory_bytes(each.compiled),
        }
        for name, each in loops.items()
    }


def _open_loop(config: Any) -> loop.Loop:
    system = system_lib.make_system(config)
    source, _ = data.open_source(config, system.settings)
    feed = pipeline.open_feed(source, system.settings, system.shardings, "train")
    return loop.Loop(system, feed, system.init_state(), config.seed)


def _starts(settings: plan.Plan, config: str, fields: Mapping[str, Any]) -> Iterator[page.Finding]:
    """Measures start-up twice with one cache for compiled programs, which is empty at first."""
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold", "warm"):
            try:
                found = isolated.call(
                    start,
                    limit_s=settings.left(),
                    environ={"JAX_COMPILATION_CACHE_DIR": cache},
                    config=config,
                    fields=dict(fields),
                )
            except isolated.FailedError as error:
                yield page.unmeasured(START, error, name)
                return
            seconds = found["start_up_seconds"]
            laps = {lap.replace("_", " "): f"{each:.1f}" for lap, each in seconds.items()}
            yield page.Finding(START, {config: name, **laps}, {"cache": name, **found})


def start(config: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the start-up part of `jaxlung.benchmark.run`, with generated records in memory."""
    found = step.measure(config, fields, seconds=0.0)
    return {name: found[name] for name in ("start_up_seconds", "compiled_step_from_cache")}


def _whole_jobs(settings: plan.Plan, data_dir: str) -> Iterator[page.Finding]:
    """Runs the job twice in fresh folders, without counting the preparation of data."""
    with tempfile.TemporaryDirectory() as folder:
        common = ["--config=covidqu:quick", f"--config.data.data_dir={data_dir}"]
        try:
            isolated.call(
                prepare,
                limit_s=settings.left(),
                config="covidqu:quick",
                fields={"data.data_dir": data_dir},
            )
            for name in ("cold", "warm"):
                workdir = pathlib.Path(folder) / name
                seconds = _time_job([*common, f"--workdir={workdir}"], folder, settings.left())
                cells = {"compiled programs": name, "seconds": f"{seconds:.1f}"}
                yield page.Finding(WHOLE, cells, {"cache": name, "seconds": seconds})
        except isolated.FailedError as error:
            yield page.unmeasured(WHOLE, error, "covidqu:quick")


def _time_job(arguments: list[str], folder: str, limit_s: float) -> float:
    """Returns the seconds of one run of jaxlung's command line."""
    environ = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled"}
    begin = time.perf_counter()
    isolated.run("jaxlung.main", arguments, limit_s, environ)
    return time.perf_counter() - begin
