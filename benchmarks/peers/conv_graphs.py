"""Times convolutions of cuDNN alone and together with what a U-Net computes around them.

    torch_env/bin/python -m benchmarks.peers.conv_graphs [--batch_size=64] [--limit_s=120]

cuDNN can compute BatchNorm's sums, ReLU's mask and more in the kernel of a convolution (a "graph").
XLA can't ask for that. This command measures whether it would pay: a graph gains if it takes less
time than the plain convolution and the passes over memory that the graph spares. It needs an NVIDIA
GPU, PyTorch and the package `nvidia-cudnn-frontend`; neither JAX nor jaxlung. docs/benchmarks.md
has what was found without a GPU.
"""

import argparse
import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

PLANS = 3  # The best by cuDNN's own estimate; each takes about a second to compile.
REPEATS = 20
TOLERANCE = 1e-3  # Of sums over rounded results; a wrong sum is off by much more.
SUMS = {"sum", "sum_of_products"}
WINDOW = dict(padding=[1, 1], stride=[1, 1], dilation=[1, 1])


@dataclasses.dataclass(frozen=True)
class Level:
    """Convolutions of the U-Net of config `covidqu` that have results of one size.

    Attributes:
        channels: channels of the result, and here of the input too.
        size: height and width.
        forwards: number of 3 x 3 convolutions, each before a BatchNorm.
        gradients: number of input gradients that flow into a ReLU and BatchNorm and nowhere else.
    """

    channels: int
    size: int
    forwards: int
    gradients: int


LEVELS = (
    Level(channels=64, size=256, forwards=4, gradients=2),
    Level(channels=128, size=128, forwards=4, gradients=2),
    Level(channels=256, size=64, forwards=4, gradients=2),
    Level(channels=512, size=32, forwards=4, gradients=2),
    Level(channels=1024, size=16, forwards=2, gradients=1),
)


@dataclasses.dataclass(frozen=True)
class Graph:
    """A 3 x 3 convolution with what is computed in its kernel.

    Attributes:
        name: what it computes.
        is_gradient: it is the gradient of the input, else the convolution itself.
        normalises: its input is first scaled and shifted by channel, and rectified.
        masks: its result is zero where another activation isn't positive (ReLU's gradient).
        sums: two sums by channel are results too: of y and y * y, or for a gradient g of g and
            g * x (BatchNorm's statistics, and their gradients).
        spared: passes over memory, each a read or a write of one activation, that kernels of their
            own take otherwise, less those that this kernel takes more.
    """

    name: str
    is_gradient: bool = False
    normalises: bool = False
    masks: bool = False
    sums: bool = False
    spared: int = 0


# XLA's kernels behind a gradient, today: one masks it and sums it (2 reads, 1 write), one sums its
# products with x (2 reads). A graph with the mask reads one activation, and leaves 3 reads for the
# sums; with the sums it reads two, and leaves nothing. To normalise inside a convolution spares
# nothing in training: the weight gradient needs the normalised input, and has no such graph.
GRAPHS = (
    Graph("forward"),
    Graph("forward, sums", sums=True, spared=1),
    Graph("normalise, ReLU, forward, sums", normalises=True, sums=True, spared=1),
    Graph("gradient", is_gradient=True),
    Graph("gradient, mask", is_gradient=True, masks=True, spared=1),
    Graph("gradient, mask, sums", is_gradient=True, masks=True, sums=True, spared=3),
)


def main() -> None:
    """Prints a line of JSON as soon as a graph is measured, then what a step would gain."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=int, default=64, help="images")
    parser.add_argument("--limit_s", type=float, default=120, help="start no graph after so long")
    arguments = parser.parse_args()
    try:
        import cudnn
        import torch
    except ImportError as error:
        raise SystemExit(
            f"{error}; pip install nvidia-cudnn-frontend beside PyTorch for CUDA."
        ) from error
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no NVIDIA GPU.")
    for row in measure_all(arguments.batch_size, arguments.limit_s, torch, cudnn):
        print(json.dumps(row), flush=True)


def measure_all(batch: int, limit_s: float, torch: Any, cudnn: Any) -> Iterator[dict[str, Any]]:
    """Measures one graph after the other, until there are no more or time is up.

    Yields:
        For each graph of each level "channels", "size", "graph" and, if cuDNN has it, "ms", "plan"
        and for graphs that spare a pass "gains_ms", of one such graph; else "not_available", the
        reason. At the end, for each of these graphs, "step_gains_ms": over all levels where it
        gains, times the number of such convolutions in a step.
    """
    end = time.monotonic() + limit_s
    bandwidth = measure_bandwidth(torch)
    handle = cudnn.create_handle()
    plain: dict[tuple[Level, bool], float] = {}
    step_gains: dict[str, float] = {}
    for level, graph in itertools.product(LEVELS, GRAPHS):
        if time.monotonic() > end:
            break
        row: dict[str, Any] = {
            "graph": graph.name,
            "channels": level.channels,
            "size": level.size,
        }
        try:
            seconds, row["plan"] = measure(graph, level, batch, torch, cudnn, handle)
        except (RuntimeError, cudnn.cudnnGraphNotSupportedError) as error:
            yield row | {"not_available": str(error)[:200]}
            continue
        row["ms"] = 1e3 * seconds
        if not graph.spared:
            plain[level, graph.is_gradient] = seconds
        elif (level, graph.is_gradient) in plain:
            alone = plain[level, graph.is_gradient]
            gain = gain_of(graph, level, batch, alone, seconds, bandwidth)
            row["gains_ms"] = 1e3 * gain
            count = level.gradients if graph.is_gradient else level.forwards
            so_far = step_gains.get(graph.name, 0.0)
            step_gains[graph.name] = so_far + 1e3 * count * max(gain, 0.0)
        yield row
    for name, gain in step_gains.items():
        yield {"graph": name, "step_gains_ms": gain}


def gain_of(
    graph: Graph, level: Level, batch: int, plain: float, seconds: float, bandwidth: float
) -> float:
    """Returns the seconds that a step gains by one such graph; negative if it loses.

    Args:
        graph: what is computed.
        level: size of the activation.
        batch: number of images.
        plain: seconds of the convolution alone.
        seconds: seconds of the graph.
        bandwidth: bytes that the device reads and writes in a second.
    """
    one_pass = 2 * batch * level.size**2 * level.channels / bandwidth  # bfloat16
    return plain + graph.spared * one_pass - seconds


def measure(
    graph: Graph, level: Level, batch: int, torch: Any, cudnn: Any, handle: Any
) -> tuple[float, str]:
    """Returns the seconds of the fastest of `PLANS` plans that is right, and its name.

    Raises:
        cudnn.cudnnGraphNotSupportedError: cuDNN has no plan for it on this device.
        RuntimeError: no plan gives the right sums.
    """
    built, tensors = build(graph, level, batch, cudnn, handle=handle)
    data = {name: _example(tensor, torch, cudnn) for name, tensor in tensors.items()}
    arguments = {tensor: data[name] for name, tensor in tensors.items()}
    best = (float("inf"), "")
    for index in range(min(PLANS, built.get_execution_plan_count())):
        built.build_plan_at_index(index)
        size = built.get_workspace_size_plan_at_index(index)
        workspace = torch.empty(max(size, 1), dtype=torch.uint8, device="cuda")

        def run(index: int = index, workspace: Any = workspace) -> None:
            built.execute_plan_at_index(arguments, workspace, index, handle=handle)

        seconds = _seconds(run, torch)
        plan = built.get_plan_name_at_index(index)
        for name in SUMS & data.keys():  # Blocks of threads may add to what is there.
            data[name].zero_()
        run()
        error = error_of_sums({name: values.float() for name, values in data.items()})
        if error > TOLERANCE:
            print(f"{plan}: relative error of its sums {error:.1g}", file=sys.stderr)
        else:
            best = min(best, (seconds, plan))
    if not best[1]:
        raise RuntimeError("no plan gives the right sums")
    return best


def error_of_sums(data: Mapping[str, Any]) -> float:
    """Returns the largest relative error of sums by channel; 0 for a graph without.

    Args:
        data: float32 arrays by the names that `build` gives them.
    """
    if "sum" not in data:
        return 0.0
    y = data["y"]
    products = y * data.get("factor", y)
    errors = [
        abs(got.flatten() - values.sum((0, 2, 3))).max() / abs(values).sum((0, 2, 3)).max()
        for got, values in ((data["sum"], y), (data["sum_of_products"], products))
    ]
    return float(max(errors))


def build(
    graph: Graph, level: Level, batch: int, cudnn: Any, **device: Any
) -> tuple[Any, dict[str, Any]]:
    """Returns a graph of cuDNN with its plans chosen but not compiled, and its tensors by name.

    Args:
        graph: what is computed.
        level: sizes.
        batch: number of images.
        cudnn: the module.
        **device: `handle` of the device, or `device_property`, its description.

    Raises:
        cudnn.cudnnGraphNotSupportedError: cuDNN has no plan for it on this device.
    """
    bfloat16, float32 = cudnn.data_type.BFLOAT16, cudnn.data_type.FLOAT
    built = cudnn.pygraph(
        io_data_type=bfloat16,
        intermediate_data_type=float32,
        compute_data_type=float32,
        **device,
    )
    tensors = {}

    def given(name: str, shape: Sequence[int], dtype: Any = bfloat16) -> Any:
        tensors[name] = built.tensor(dim=shape, stride=channels_last(shape), data_type=dtype)
        return tensors[name]

    def result(name: str, tensor: Any, shape: Sequence[int], dtype: Any = bfloat16) -> None:
        tensor.set_output(True).set_data_type(dtype)
        tensors[name] = tensor.set_dim(shape).set_stride(channels_last(shape))

    channels = level.channels
    activation = [batch, channels, level.size, level.size]
    by_channel = [1, channels, 1, 1]
    x = given("x", activation)
    kernel = given("kernel", [channels, channels, 3, 3])
    if graph.normalises:
        scale, shift = (given(name, by_channel, float32) for name in ("scale", "shift"))
        x = built.relu(built.add(built.mul(x, scale), shift)).set_data_type(bfloat16)
    if graph.is_gradient:
        y = built.conv_dgrad(loss=x, filter=kernel, **WINDOW).set_dim(activation)
    else:
        y = built.conv_fprop(image=x, weight=kernel, **WINDOW)
    if graph.masks:
        y = built.relu_backward(y, given("mask", activation))
    result("y", y, activation)
    if graph.sums:
        factor = given("factor", activation) if graph.is_gradient else y
        for name, value in (("sum", y), ("sum_of_products", built.mul(y, factor))):
            total = built.reduction(value, mode=cudnn.reduction_mode.ADD)
            result(name, total, by_channel, float32)
    built.validate()
    built.build_operation_graph()
    built.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    return built, tensors


def channels_last(shape: Sequence[int]) -> list[int]:
    """Returns the strides, in elements, of [N, C, H, W] with C innermost in memory."""
    _, channels, height, width = shape
    return [height * width * channels, 1, width * channels, channels]


def measure_bandwidth(torch: Any) -> float:
    """Returns the bytes that the GPU reads and writes in a second when it copies 1 GiB."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * 2**30 / _seconds(lambda: target.copy_(source), torch)


def _example(tensor: Any, torch: Any, cudnn: Any) -> Any:
    is_float32 = tensor.get_data_type() == cudnn.data_type.FLOAT
    dtype = torch.float32 if is_float32 else torch.bfloat16
    values = torch.randn(tensor.get_dim(), dtype=dtype, device="cuda")
    return values.to(memory_format=torch.channels_last)


def _seconds(run: Callable[[], Any], torch: Any) -> float:
    """Returns the seconds of one call, as the mean of `REPEATS` calls in a row."""
    for _ in range(3):
        run()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(REPEATS):
        run()
    end.record()
    torch.cuda.synchronize()
    seconds: float = start.elapsed_time(end) / 1e3 / REPEATS
    return seconds


if __name__ == "__main__":
    main()
