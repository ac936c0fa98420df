"""The training step alone: each config is measured in a process of its own."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import cases, isolated, page, plan
from jaxlung import benchmark

TABLE = "A training step: forward, backward and Adam, always on the same batch"
# The table has the time of compilation, so nothing may come from the cache of an earlier run.
NO_CACHE = {"JAX_ENABLE_COMPILATION_CACHE": "false"}


def run(settings: plan.Plan) -> Iterator[page.Finding]:
    """Yields a row for each case as soon as it is measured."""
    for case in settings.choose(cases.QUICK, cases.CPU, cases.ACCELERATOR):
        fields = {"step.steps_per_dispatch": 1} | dict(case.fields)
        try:
            found = isolated.call(
                measure,
                limit_s=settings.left(),
                environ=NO_CACHE,
                config=case.config,
                fields=fields,
                seconds=settings.seconds,
            )
        except isolated.FailedError as error:
            yield page.Finding(
                TABLE, _unmeasured(case, error), {"error": str(error)} | case.arguments
            )
        else:
            row = {"case": case.name} | found
            yield page.Finding(TABLE, cells(case.name, found), row)


def measure(config: str, fields: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Runs `jaxlung.benchmark.run` on a case; its table goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        return benchmark.run(cases.load(config, fields), seconds=seconds)


def cells(name: str, found: Mapping[str, Any]) -> dict[str, str]:
    """Returns a row of the table from the result of `jaxlung.benchmark.run`."""
    config = found["config"]
    rates = found[f"step_{config['units']}_per_s"]
    return {
        **_heading(name, config["input_shape"], config["batch_size"], config["dtype"]),
        "per second": page.with_range(rates["median"], rates["min"], rates["max"], ",.1f")
        + f" {config['units']}",
        "ms per step": f"{found['step_seconds'] * 1e3:,.1f}",
        "TFLOP/s": f"{found['flops_per_s_and_device'] / 1e12:,.3g}",
        "of peak": f"{found['peak']['step_share']:.1%}" if found["peak"] else "unknown",
        "memory, GiB": f"{found['memory']['bytes'] / 2**30:.2f} ({found['memory']['how']})",
        "compile, s": f"{found['start_up_seconds']['compile']:.1f}",
    }


def _unmeasured(case: cases.Case, error: isolated.FailedError) -> dict[str, str]:
    config = cases.load(**case.arguments)
    shape = config.data.get("patch_size") or 2 * (config.data.image_size,)
    heading = _heading(case.name, shape, config.data.batch_size, config.model.dtype)
    return heading | {"per second": f"not measured: {error}"}


def _heading(name: str, shape: Any, batch_size: int, dtype: str) -> dict[str, str]:
    size = " x ".join(map(str, shape))
    return {"config": name, "input": size, "batch": str(batch_size), "type": dtype}
