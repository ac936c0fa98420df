"""Checks that networks compute the same on this accelerator as on the CPU.

    python -m benchmarks.numerics                      # every network, 64 x 64 images; minutes
    python -m benchmarks.numerics --quick              # two tiny networks

Compares logits, loss and gradients of one training batch. Both devices run in one process, each
with its own compilation, so that layers have the form for each platform. Differences are relative,
|a - b| / |b| over all elements, where b is the CPU's result in float32. Tolerances (our choice):

- "highest", which is float32 with all its bits: 1e-4 for logits, 1e-5 for the loss, 1e-2 for
  gradients, where another order of summation flips ReLUs and maxima;
- "float32" as in JAX by default (TF32 on NVIDIA), and "bfloat16": twice the difference between
  bfloat16 and float32 on the CPU, plus the tolerance of "highest". The loss is a single number that
  may agree by luck, so its difference counts as a tenth of that of the logits at least.

Exits with code 1 if a difference is too large or not finite. Without an accelerator, the CPU is
compared with itself.
"""

import argparse
import concurrent.futures
import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections as mlc
import numpy as np

from benchmarks import cases, page
from jaxlung.benchmark import data
from jaxlung.host import compile_cache
from jaxlung.losses import deep_supervision
from jaxlung.training import system as system_lib

CHANGES = {  # Small images, but all networks at full width.
    "covidqu": {"data.image_size": 64},
    "covidqu_residual": {"data.image_size": 64},
    "cxr_lungs": {"data.image_size": 64, "model.border": 4},
    "v7_lungs": {"data.image_size": 64},
    "v7_diagnosis": {"data.image_size": 64},
    "covid19_ct": {"data.patch_size": (8, 64, 64)},
}
QUICK = ("covidqu", "covid19_ct")
BATCH = 4
WORKERS = len(CHANGES)  # All at a time: most of the time goes into compiling, each on one core.
HIGHEST = {"logits": 1e-4, "loss": 1e-5, "gradients": 1e-2}
MODES = {  # name -> dtype of the computation, precision of products
    "highest": ("float32", "highest"),
    "float32": ("float32", None),
    "bfloat16": ("bfloat16", None),
}
Outputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Problem:
    """A training batch and parameters, on the CPU.

    Attributes:
        variables: initial variables of the network, on the host.
        inputs: input of the network.
        targets: targets of the loss.
        rng: key of the randomness in training.
    """

    variables: Any
    inputs: jax.Array
    targets: jax.Array
    rng: jax.Array


def compare(config: str, fields: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the rows of one network: difference and tolerance for each mode and output."""
    systems = {
        dtype: system_lib.make_system(cases.load(config, fields | {"model.dtype": dtype}))
        for dtype in ("float32", "bfloat16")
    }
    problem = make_problem(systems["float32"], cases.load(config, fields))

    def compute_on(device: jax.Device, mode: str) -> Outputs:
        dtype, precision = MODES[mode]
        with jax.default_matmul_precision(precision):
            return compute(systems[dtype], problem, device)

    cpu, here = jax.devices("cpu")[0], jax.devices()[0]
    want = compute_on(cpu, "highest")
    coarse = differences(compute_on(cpu, "bfloat16"), want)
    coarse["loss"] = max(coarse["loss"], 0.1 * coarse["logits"])
    found = {mode: differences(compute_on(here, mode), want) for mode in MODES}
    return [
        make_row(config, mode, name, difference, 0.0 if mode == "highest" else 2 * coarse[name])
        for mode, by_name in found.items()
        for name, difference in by_name.items()
    ]


def make_row(
    config: str, mode: str, name: str, difference: float, coarseness: float
) -> dict[str, Any]:
    """Returns a row; a difference that is not finite is too large."""
    tolerance = HIGHEST[name] + coarseness
    return {
        "config": config,
        "mode": mode,
        "output": name,
        "difference": difference,
        "tolerance": tolerance,
        "equal": bool(difference <= tolerance),
    }


def make_problem(system: system_lib.System, config: mlc.ConfigDict) -> Problem:
    """Makes a batch from the middle of records of noise, and initial parameters."""
    source, _ = data.open_source(config, system.settings)
    items = [source[index % len(source)] for index in range(BATCH)]
    with jax.default_device(jax.devices("cpu")[0]):
        images, masks = (
            jnp.stack([middle(getattr(item, name), system.settings.input_shape) for item in items])
            for name in ("image", "mask")
        )
        inputs = system.task.inputs(system.step.scale(images), masks)
        targets = system.task.targets(masks, jnp.array([item.label for item in items], jnp.uint8))
        rng = jax.random.key(0)
    state = jax.device_get(system.init_state())
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return Problem(variables, inputs, targets, rng)


def middle(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns the part of this shape in the middle of an array."""
    starts = [(size - part) // 2 for size, part in zip(array.shape, shape, strict=True)]
    return array[tuple(slice(s, s + part) for s, part in zip(starts, shape, strict=True))]


def compute(system: system_lib.System, problem: Problem, device: jax.Device) -> Outputs:
    """Runs one forward and backward pass in training mode on one device."""

    def loss_of(
        params: Any, rest: Any, inputs: jax.Array, targets: jax.Array, rng: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        outputs, _ = system.model.apply(
            {"params": params, **rest},
            inputs,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": rng},
        )
        loss = jnp.mean(deep_supervision.weighted(system.task.loss, outputs, targets))
        return loss, outputs[0] if isinstance(outputs, tuple) else outputs

    rest = dict(problem.variables)
    arguments = (rest.pop("params"), rest, problem.inputs, problem.targets, problem.rng)
    # It runs once, so the CPU gets a program that compiles fast.
    options = {"xla_backend_optimization_level": 1} if device.platform == "cpu" else None
    step = jax.jit(jax.value_and_grad(loss_of, has_aux=True), compiler_options=options)
    (loss, logits), grads = jax.device_get(step(*jax.device_put(arguments, device)))
    flat = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(grads)])
    return {"logits": logits, "loss": loss, "gradients": flat}


def differences(got: Outputs, want: Outputs) -> dict[str, float]:
    """Returns |got - want| / |want| over all elements of each output."""
    return {
        name: float(np.linalg.norm(got[name] - want[name]) / np.linalg.norm(want[name]))
        for name in want
    }


def cells(row: dict[str, Any]) -> dict[str, str]:
    """Returns a row of the table."""
    return {
        "config": row["config"],
        "mode": row["mode"],
        "output": row["output"],
        "difference": f"{row['difference']:.1e}",
        "tolerance": f"{row['tolerance']:.1e}",
        "": "" if row["equal"] else "**too large**",
    }


def compare_by_name(name: str, quick: bool) -> list[dict[str, Any]]:
    """Returns `compare` of a key of `CHANGES`, or of its tiny variant."""
    fields = dict.fromkeys(("data.batch_size", "data.eval_batch_size"), BATCH * jax.device_count())
    return compare(f"{name}:quick", fields) if quick else compare(name, fields | CHANGES[name])


def main(argv: Sequence[str]) -> int:
    """Runs the command line: prints the table and returns the exit code."""
    parser = argparse.ArgumentParser("benchmarks.numerics", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two tiny networks")
    parser.add_argument("--configs", default="", help="names, separated by commas; default: all")
    args = parser.parse_args(argv)
    names = args.configs.split(",") if args.configs else QUICK if args.quick else CHANGES
    if unknown := set(names) - set(CHANGES):
        parser.error(f"--configs: got {', '.join(unknown)}, want some of {', '.join(CHANGES)}.")
    compile_cache.use(os.environ)
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        found = list(pool.map(lambda name: compare_by_name(name, args.quick), names))
    rows = [row for each in found for row in each]
    kind = jax.devices()[0].device_kind
    print(f"{kind} against the CPU, jax {jax.__version__}\n")
    print(page.table([cells(row) for row in rows]))
    return int(not all(row["equal"] for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
