"""The time of a step by kind of kernel, from a trace of JAX's profiler.

    python -m benchmarks.kernels FOLDER [STEPS]      # the folder that jax.profiler wrote; JSON

Reads `*.trace.json.gz`, which needs no package. On GPUs the kernels are on the lines "Stream ..."
of a device, on TPUs on its line "XLA Ops". A CPU has no such line: there all operations count that
XLA names, on all threads.
"""

import collections
import gzip
import json
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LARGEST = 30  # kernels that are listed by name
# Kind -> pattern in "kernel operation", in lower case. The first match counts: layout conversions
# belong to the operation of a convolution, and convolutions that compute a gradient to another.
KINDS = {
    "layout conversion": r"nchwtonhwc|nhwctonchw|ncdhwtondhwc|ndhwctoncdhw|convert_?layout"
    r"|tensortransform|transpose|copy",
    "convolution, weight gradient": r"bw-filter|wgrad|bwd_filter|backward_filter",
    "convolution, input gradient": r"bw-input|dgrad|bwd_data|backward_data",
    "convolution, forward": r"cudnn-conv|fprop|convolvend|implicit_gemm|cudnn.*conv",
    "convolution": r"conv(?!ert)",
    "product": r"gemm|cublas|nvjet|\bdot|cutlass|xmma",
    "reduction": r"reduc|reduce_window|select_and_scatter|select-and-scatter",
    "elementwise": r"fusion|loop_|wrapped_|\bbroadcast|\bselect|\badd|\bmaximum|\bmultiply",
}
OTHER = "other"


def breakdown(folder: str | pathlib.Path, num_steps: int) -> dict[str, Any]:
    """Returns milliseconds a step by kind, and the largest kernels.

    Args:
        folder: folder that `jax.profiler.trace` wrote, with one trace.
        num_steps: steps in the trace.

    Returns:
        "ms_by_kind", with the largest first; "kernels", [name, kind, ms, calls] each a step, the
        `LARGEST`. Kernels that ran at the same time count twice.

    Raises:
        ValueError: the folder has no trace, or several.
    """
    paths = list(pathlib.Path(folder).rglob("*.trace.json.gz"))
    if len(paths) != 1:
        raise ValueError(f"{folder}: got {len(paths)} files *.trace.json.gz, want 1.")
    with gzip.open(paths[0]) as file:
        return summarise(json.load(file)["traceEvents"], num_steps)


def summarise(events: Sequence[Mapping[str, Any]], num_steps: int) -> dict[str, Any]:
    """Returns the result of `breakdown` from the events of a trace."""
    seconds: collections.Counter[str] = collections.Counter()
    by_kernel: collections.Counter[tuple[str, str]] = collections.Counter()
    calls: collections.Counter[tuple[str, str]] = collections.Counter()
    for kernel, operation, duration in find_kernels(events):
        kind = kind_of(kernel, operation)
        name = operation if operation and kind in ("reduction", "elementwise") else kernel
        seconds[kind] += duration
        by_kernel[name, kind] += duration
        calls[name, kind] += 1
    return {
        "ms_by_kind": {kind: each / 1e3 / num_steps for kind, each in seconds.most_common()},
        "kernels": [
            [*key, each / 1e3 / num_steps, calls[key] / num_steps]
            for key, each in by_kernel.most_common(LARGEST)
        ],
    }


def kind_of(kernel: str, operation: str) -> str:
    """Returns a key of `KINDS` or `OTHER`.

    Args:
        kernel: the kernel's name.
        operation: the instruction of XLA that it belongs to, or "".
    """
    text = f"{kernel} {operation}".lower()
    return next((kind for kind, words in KINDS.items() if re.search(words, text)), OTHER)


def find_kernels(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, float]]:
    """Yields kernel, operation and microseconds of each kernel that ran."""
    processes, threads = {}, {}
    for event in events:
        if event.get("ph") == "M" and event["name"] == "process_name":
            processes[event["pid"]] = event["args"]["name"]
        elif event.get("ph") == "M" and event["name"] == "thread_name":
            threads[event["pid"], event["tid"]] = event["args"]["name"]
    has_device = any(name.startswith("/device:") for name in processes.values())
    for event in events:
        if event.get("ph") != "X":
            continue
        operation = event.get("args", {}).get("hlo_op", "")
        line = threads.get((event["pid"], event["tid"]), "")
        on_device = processes.get(event["pid"], "").startswith("/device:")
        if (on_device and re.match("Stream|XLA Ops", line)) or (not has_device and operation):
            yield event["name"], operation, event["dur"]


def main(argv: Sequence[str]) -> None:
    """Runs the command line: prints JSON."""
    print(json.dumps(breakdown(argv[0], int(argv[1]) if len(argv) > 1 else 1), indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
