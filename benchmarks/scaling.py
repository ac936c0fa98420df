"""Compares meshes of devices: the data they send in a training step, their results, their speed.

    python -m benchmarks.scaling --config=covidqu:phantom
    python -m benchmarks.scaling --config=covid19_ct:quick --meshes=1x1,2x1,1x2,2x2 --batch_size=8
    python -m benchmarks.scaling --config=covidqu --weak      # the config's batch on every device

Prints a Markdown table, then a line of JSON. With several accelerators, meshes are subsets of them
and steps are timed. Elsewhere devices are simulated on the CPU and nothing is timed:
the data sent are counted in the program that XLA partitions for them, with layers in their form for
accelerators. Each mesh has its own process; all see the same random batches.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections as mlc
import numpy as np

from benchmarks import page
from jaxlung.benchmark import collectives, dry_run
from jaxlung.config import config_file
from jaxlung.data.feed import stream
from jaxlung.parallel import sharding
from jaxlung.training import system as system_lib

MESHES = "1x1,2x1,4x1,8x1,1x2,2x2,1x4"
TIMED_STEPS, REPEATS = 10, 5
ASK = "import jax; print(jax.default_backend() != 'cpu', jax.device_count())"


def measure(
    config_name: str, meshes: Sequence[tuple[int, int]], batch_size: int, weak: bool
) -> list[dict[str, Any]]:
    """Measures each mesh.

    Args:
        config_name: name of the config.
        meshes: (data, space) pairs; the others are compared with the first.
        batch_size: images or patches per step; 0: the config's.
        weak: True: `batch_size` is for each device that shares the batch; False: for all together.

    Returns:
        A row for each mesh as in `measure_mesh`, with two more fields. "difference" is the relative
        difference from the first mesh, of the loss or of the gradient's norm, whichever is larger;
        None if `weak`. "efficiency" is the speed per device over that of the first mesh; None if
        nothing is timed.
    """
    is_accelerator, count = _run([sys.executable, "-c", ASK], {}).split()
    real = is_accelerator == "True" and int(count) > 1
    rows = []
    for data, space in meshes:
        if real and data * space > int(count):
            print(f"{data} x {space}: left out, there are {count} devices.", file=sys.stderr)
            continue
        batch = (batch_size or _load(config_name).data.batch_size) * (data if weak else 1)
        command = [sys.executable, "-m", "benchmarks.scaling", f"--config={config_name}"]
        command += [f"--batch_size={batch}", f"--mesh={data}x{space}"]
        print(f"{data} x {space}", file=sys.stderr)
        rows.append(json.loads(_run(command, {} if real else _fake(data * space)).splitlines()[-1]))
    return [row | _compare(row, rows[0], weak) for row in rows]


def _fake(num_devices: int) -> dict[str, str]:
    """Returns environment variables that simulate `num_devices` devices on the CPU."""
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    # This halves the time of compiling. Programs are partitioned before.
    flags += " --xla_backend_optimization_level=1"
    return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}"}


def _load(config_name: str) -> mlc.ConfigDict:
    return config_file.load(config_file.resolve(config_name))


def _run(command: Sequence[str], variables: dict[str, str]) -> str:
    """Returns what a command prints; if it fails, exits with its last line of errors."""
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def _compare(row: dict[str, Any], first: dict[str, Any], weak: bool) -> dict[str, Any]:
    """Compares the numbers and the speed of a row with those of the first."""
    # Losses and gradients are those of the first step. Later, Adam magnifies rounding wherever
    # gradients are near 0.
    differences = [abs(row[name] / first[name] - 1) for name in ("loss", "grad_norm")]
    efficiency = None
    if row["examples_per_s"]:
        per_device = [x["examples_per_s"] / (x["data"] * x["space"]) for x in (row, first)]
        efficiency = per_device[0] / per_device[1]
    return {"difference": None if weak else max(differences), "efficiency": efficiency}


def measure_mesh(config_name: str, data: int, space: int, batch_size: int) -> dict[str, Any]:
    """Compiles and runs the training step on the first `data` x `space` devices.

    Returns:
        "data", "space", "batch_size", "device"; "parameters"; "sent", kind -> (count, bytes) of one
        step on one device; "memory_bytes" of one device; "loss" and "grad_norm" of the first
        step; "examples_per_s", the median, None on a CPU.
    """
    config = _load(config_name)
    config.mesh.update(data=data, space=space)
    config.data.update(batch_size=batch_size, eval_batch_size=8 * data)
    devices = jax.devices()[: data * space]
    is_fake = devices[0].platform == "cpu"
    if is_fake:
        jax.lax.platform_dependent = _accelerator_form
    system = system_lib.make_system(config, devices)
    state, item = system.init_state(), random_item(system)
    step_fn = system.jit_train_step(stream.take).lower(state, {}, item, system.seed).compile()
    sent = collectives.totals(collectives.parse(step_fn.as_text()))
    state, metrics = step_fn(state, {}, item, system.seed)
    speed = None if is_fake else _examples_per_s(step_fn, state, item, system)
    return {
        "data": data,
        "space": space,
        "batch_size": batch_size,
        "device": devices[0].device_kind,
        "parameters": dry_run.num_parameters(state),
        "sent": {kind: (total.count, total.num_bytes) for kind, total in sent.items()},
        "memory_bytes": dry_run.memory_bytes(step_fn),
        "loss": float(metrics["loss"][0]),
        "grad_norm": float(metrics["grad_norm"][0]),
        "examples_per_s": speed,
    }


def _accelerator_form(*args: Any, default: Callable[..., Any], **_: Any) -> Any:
    """Stands in for `jax.lax.platform_dependent` and takes the form for accelerators."""
    return default(*args)


def random_item(system: system_lib.System) -> Any:
    """Returns a batch of noise, the same on every mesh."""
    np_rng = np.random.default_rng(0)

    def draw(spec: jax.ShapeDtypeStruct) -> np.ndarray:
        # Grey values, Hounsfield units and mask bits; or the labels.
        high = 256 if spec.ndim > 2 else 2
        return np_rng.integers(0, high, spec.shape).astype(spec.dtype)

    return sharding.put(
        jax.tree.map(draw, dry_run.abstract_item(system, system.settings.batch_size)),
        system.shardings.steps,
    )


def _examples_per_s(
    step_fn: jax.stages.Compiled, state: Any, item: Any, system: system_lib.System
) -> float:
    """Returns the median speed over repeats of a step that has run before."""
    speeds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(TIMED_STEPS):
            state, _ = step_fn(state, {}, item, system.seed)
        jax.block_until_ready(state)
        seconds = time.perf_counter() - start
        speeds.append(TIMED_STEPS * system.settings.batch_size / seconds)
    return statistics.median(speeds)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as Markdown."""
    kinds = [kind for kind in collectives.KINDS if any(kind in row["sent"] for row in rows)]
    timed = any(row["examples_per_s"] for row in rows)
    return page.table([_cells(row, kinds, timed) for row in rows])


def _cells(row: dict[str, Any], kinds: Sequence[str], timed: bool) -> dict[str, str]:
    cells = {"data x space": f"{row['data']} x {row['space']}", "batch": str(row["batch_size"])}
    for kind in kinds:
        count, num_bytes = row["sent"].get(kind, (0, 0))
        cells[kind] = f"{count}: {num_bytes / 1e6:.3f} MB" if count else "none"
    difference = row["difference"]
    cells |= {
        "memory of a device": f"{row['memory_bytes'] / 1e6:.1f} MB",
        "loss, gradient differ by": "not compared" if difference is None else f"{difference:.0e}",
    }
    if timed:
        cells |= {
            "examples/s": f"{row['examples_per_s']:.1f}",
            "efficiency": f"{row['efficiency']:.2f}",
        }
    return cells


def parse_mesh(text: str) -> tuple[int, int]:
    """Returns "2x4" as (2, 4): data, then space."""
    data, space = text.split("x")
    return int(data), int(space)


def main() -> None:
    """Runs the command line; prints a table and a line of JSON, or the JSON of a single mesh."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="covidqu:phantom")
    parser.add_argument(
        "--meshes", default=MESHES, help="data x space of each mesh, separated by commas"
    )
    parser.add_argument(
        "--batch_size", type=int, default=0, help="examples per step; 0: the config's"
    )
    parser.add_argument("--weak", action="store_true", help="every device gets a whole batch")
    parser.add_argument("--mesh", help="measure only this mesh, on the devices of this process")
    args = parser.parse_args()
    if args.mesh:
        print(json.dumps(measure_mesh(args.config, *parse_mesh(args.mesh), args.batch_size)))
        return
    meshes = [parse_mesh(mesh) for mesh in args.meshes.split(",")]
    rows = measure(args.config, meshes, args.batch_size, args.weak)
    print(table(rows))
    print(json.dumps({"config": args.config, "rows": rows}))


if __name__ == "__main__":
    main()
