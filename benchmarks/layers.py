"""Measures every layer in its textbook form and in forms that could be faster.

    python -m benchmarks.layers                      # this device: Markdown
    python -m benchmarks.layers --json               # a line of JSON for each form, when measured
    python -m benchmarks.layers --only=pooling       # layers whose name contains "pooling"
    python -m benchmarks.layers --quick              # tiny sizes: the figures mean nothing

All forms of a layer take turns, so that other load on the machine slows all of them alike. The
result is the median of the ratios of all turns.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import layer_forms, page

QUICK = ((2, 8, 8, 8), ((2, 8, 8, 8),), (1, 4, 8, 8, 8))
CPU = ((8, 64, 64, 64), ((8, 64, 64, 64), (2, 128, 128, 64), (8, 16, 16, 256)), (4, 8, 48, 48, 16))
ACCELERATOR = (
    (16, 256, 256, 64),
    ((16, 256, 256, 64), (16, 64, 64, 256), (16, 16, 16, 1024)),
    (5, 8, 128, 128, 32),
)
LEAST_ROUNDS = 5
HOW = (
    "Speed relative to the first form of each layer (lower to upper quartile over rounds); the "
    "form in use is in bold"
)
COLUMNS = ("layer", "form", "forward", "forward + gradient", "ms", "ms with gradient")


def compile_form(layer: layer_forms.Layer, name: str, arguments: Sequence[jax.Array]) -> list[Any]:
    """Compiles a form: forward, and forward with gradients of half the sum of squares."""
    form, options = layer.forms[name], layer.options.get(name)

    def loss(*arguments: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(form(*arguments).astype(jnp.float32))) / 2

    grad = jax.value_and_grad(loss, argnums=tuple(range(len(arguments))))
    return [
        jax.jit(fn, compiler_options=options).lower(*arguments).compile() for fn in (form, grad)
    ]


def measure(layer: layer_forms.Layer, dtype: str, seconds: float) -> list[dict[str, Any]]:
    """Times the forms of a layer in turn for about `seconds`, after a round that isn't counted.

    Returns:
        A row for each form: "layer", "shape", "form", "is_used", "forward" and "gradient", which
        includes the forward pass. The last two hold "ms", the median time, and "speed", the ratio
        of the first form's time to this form's: median, lower and upper quartile over rounds.
    """
    np_rng = np.random.default_rng(0)
    arguments = [jnp.asarray(np_rng.normal(size=s), dtype) for s in layer.shapes]
    programs = [compile_form(layer, name, arguments) for name in layer.forms]
    rounds = []
    end = time.perf_counter() + seconds
    while len(rounds) <= LEAST_ROUNDS or time.perf_counter() < end:
        rounds.append([[_seconds(program, arguments) for program in both] for both in programs])
    times = np.asarray(rounds[1:])  # [rounds, forms, forward or gradient]
    return [
        {
            "layer": layer.name,
            "shape": layer.shapes[0],
            "form": name,
            "is_used": name == layer.used,
            "forward": _summary(times[:, 0, 0], times[:, i, 0]),
            "gradient": _summary(times[:, 0, 1], times[:, i, 1]),
        }
        for i, name in enumerate(layer.forms)
    ]


def _seconds(program: Any, arguments: Sequence[jax.Array]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    return time.perf_counter() - start


def _summary(first: np.ndarray, this: np.ndarray) -> dict[str, Any]:
    quartiles = np.quantile(first / this, (0.5, 0.25, 0.75))
    return {
        "ms": round(1e3 * statistics.median(this), 3),
        "speed": [round(float(quartile), 2) for quartile in quartiles],
    }


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows of `measure` as a table, with the form in use in bold."""
    return page.table([cells(row) for row in rows])


def cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Returns the row of a form."""
    size = " x ".join(map(str, row["shape"]))
    form = f"**{row['form']}**" if row["is_used"] else row["form"]
    both = row["forward"], row["gradient"]
    speeds = [page.with_range(*each["speed"], ".2f") for each in both]
    texts = f"{row['layer']}, {size}", form, *speeds, *(f"{each['ms']:.2f}" for each in both)
    return dict(zip(COLUMNS, texts, strict=True))


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, few rounds")
    parser.add_argument("--json", action="store_true", help="lines of JSON, as they come")
    parser.add_argument("--only", default="", help="layers whose name contains this")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="approximate time for each layer"
    )
    parser.add_argument("--dtype", default="", help="default: float32 on CPUs, else bfloat16")
    args = parser.parse_args()
    is_cpu = jax.default_backend() == "cpu"
    dtype = args.dtype or ("float32" if is_cpu else "bfloat16")
    sizes = QUICK if args.quick else CPU if is_cpu else ACCELERATOR
    chosen = [x for x in layer_forms.all_layers(*sizes, dtype) if args.only in x.name.lower()]
    if not chosen:
        parser.error(f"--only: got {args.only!r}, want part of a layer's name, as 'convolution'.")
    seconds = 0.0 if args.quick else args.seconds
    rows = []
    for layer in chosen:
        rows += (measured := measure(layer, dtype, seconds))
        for row in measured if args.json else ():
            print(json.dumps(row | {"dtype": dtype}), flush=True)
    if not args.json:
        print(
            f"{jax.devices()[0].device_kind}, {dtype}, jax {jax.__version__}. {HOW}.\n\n"
            f"{markdown(rows)}"
        )


if __name__ == "__main__":
    main()
