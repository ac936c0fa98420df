"""Do networks compute the same on this accelerator as on the CPU? Logits, loss and gradients.

    python -m benchmarks.numerics                      # every network, 64 x 64 images; minutes
    python -m benchmarks.numerics --quick              # two tiny networks
    python -m benchmarks.numerics --out=numerics.json

Both compute the same training batch in one process, each from its own compilation, so that forms of
layers that depend on the platform are those of each. Differences are relative, |a - b| / |b| over
all elements, b the CPU's in float32. Tolerances (our choice):

- "highest", float32 with all its bits: 1e-4 of logits, 1e-5 of the loss, 1e-2 of the gradients,
  where sums of another order meet ReLUs and maxima that switch;
- "float32" as JAX does it by default (TF32 on NVIDIA), and "bfloat16": twice what bfloat16 on the
  CPU differs from float32 there, plus that of "highest"; of the loss, one number that may agree by
  luck, a tenth of what logits differ counts at least.

Ends with code 1 if a difference is larger, or not finite. Without an accelerator, CPU meets CPU.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
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

CHANGES = {  # Small images, every network at its full width.
    "covidqu": {"data.image_size": 64},
    "covidqu_residual": {"data.image_size": 64},
    "cxr_lungs": {"data.image_size": 64, "model.border": 4},
    "v7_lungs": {"data.image_size": 64},
    "v7_diagnosis": {"data.image_size": 64},
    "covid19_ct": {"data.patch_size": (8, 64, 64)},
}
QUICK = ("covidqu", "covid19_ct")
BATCH = 4
WORKERS = 3  # Networks at a time: most of the time compilers work, and each on one core.
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
        variables: of the network, fresh, on the host.
        inputs: of the network.
        targets: of the loss.
        rng: of what is random in training.
    """

    variables: Any
    inputs: jax.Array
    targets: jax.Array
    rng: jax.Array


def compare(config: str, fields: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of one network: a difference and its tolerance for each mode and each output."""
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
    """A row; a difference that is not finite is too large."""
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
    """Records of noise, from their middle, and a fresh network's parameters."""
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
    """The part of this shape in the middle."""
    starts = [(size - part) // 2 for size, part in zip(array.shape, shape, strict=True)]
    return array[tuple(slice(s, s + part) for s, part in zip(starts, shape, strict=True))]


def compute(system: system_lib.System, problem: Problem, device: jax.Device) -> Outputs:
    """One forward and backward pass in training mode on one device."""

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
    # Runs once: compiling for the CPU would take longer than all else.
    options = {"xla_backend_optimization_level": 1} if device.platform == "cpu" else None
    step = jax.jit(jax.value_and_grad(loss_of, has_aux=True), compiler_options=options)
    (loss, logits), grads = jax.device_get(step(*jax.device_put(arguments, device)))
    flat = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(grads)])
    return {"logits": logits, "loss": loss, "gradients": flat}


def differences(got: Outputs, want: Outputs) -> dict[str, float]:
    """|got - want| / |want| over all elements, of each output."""
    return {
        name: float(np.linalg.norm(got[name] - want[name]) / np.linalg.norm(want[name]))
        for name in want
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    return page.section(
        [
            page.Finding(
                "Differences from the CPU in float32, relative",
                {
                    "config": row["config"],
                    "mode": row["mode"],
                    "output": row["output"],
                    "difference": f"{row['difference']:.1e}",
                    "tolerance": f"{row['tolerance']:.1e}",
                    "": "" if row["equal"] else "**too large**",
                },
            )
            for row in rows
        ]
    )


def main(argv: Sequence[str]) -> int:
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser("benchmarks.numerics", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two tiny networks")
    parser.add_argument("--configs", default="", help="names, with commas between; all")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    args = parser.parse_args(argv)
    fields = dict.fromkeys(("data.batch_size", "data.eval_batch_size"), BATCH * jax.device_count())
    names = args.configs.split(",") if args.configs else QUICK if args.quick else CHANGES
    if unknown := set(names) - set(CHANGES):
        parser.error(f"--configs: got {', '.join(unknown)}, want some of {', '.join(CHANGES)}.")
    compile_cache.use(os.environ)
    runs = [(f"{name}:quick", {}) if args.quick else (name, CHANGES[name]) for name in names]
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        found = list(pool.map(lambda run: compare(run[0], fields | run[1]), runs))
    rows = [row for each in found for row in each]
    kind = jax.devices()[0].device_kind
    print(f"{kind} against the CPU, jax {jax.__version__}\n\n{table(rows)}")
    if args.out:
        args.out.write_text(json.dumps({"device": kind, "rows": rows}, indent=1) + "\n")
    return int(not all(row["equal"] for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
