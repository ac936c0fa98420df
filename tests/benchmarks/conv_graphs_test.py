"""Graphs of cuDNN for the convolutions of a U-Net: what they compute, and what they would gain."""

import collections
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from benchmarks.peers import conv_graphs
from jaxlung.config import config_file
from jaxlung.training import system

AXES = ("NCHW", "OIHW", "NCHW")
BATCH = 2
LEVEL = conv_graphs.Level(channels=3, size=4, forwards=1, gradients=1)


class Tensor:
    """A tensor of `FakeGraph`, whose value is known at once."""

    def __init__(self, value):
        self.value = value

    def set_output(self, is_output):
        return self

    def set_data_type(self, dtype):
        return self

    def set_dim(self, shape):
        assert self.value.shape == tuple(shape)
        return self

    def set_stride(self, strides):
        return self


class FakeGraph:
    """Computes with JAX what cuDNN's graph of the same calls describes."""

    def __init__(self, np_rng):
        self.np_rng = np_rng

    def tensor(self, dim, stride, data_type):
        return Tensor(jnp.asarray(self.np_rng.normal(size=dim), jnp.float32))

    def mul(self, a, b):
        return Tensor(a.value * b.value)

    def add(self, a, b):
        return Tensor(a.value + b.value)

    def relu(self, x):
        return Tensor(jnp.maximum(x.value, 0))

    def relu_backward(self, loss, input):
        return Tensor(jnp.where(input.value > 0, loss.value, 0))

    def conv_fprop(self, image, weight, padding, stride, dilation):
        return Tensor(convolve(image.value, weight.value))

    def conv_dgrad(self, loss, filter, padding, stride, dilation):
        # The input has the shape of the result: 3 channels both, and the size is kept.
        transposed = jax.linear_transpose(lambda x: convolve(x, filter.value), loss.value)
        return Tensor(*transposed(loss.value))

    def reduction(self, value, mode):
        assert mode == "add"
        return Tensor(jnp.sum(value.value, (0, 2, 3), keepdims=True))

    def validate(self):
        pass

    def build_operation_graph(self):
        pass

    def create_execution_plans(self, modes):
        pass


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=AXES)


def computed(graph):
    """Returns the values of a graph's tensors by name."""
    np_rng = np.random.default_rng(0)
    fake = types.SimpleNamespace(
        pygraph=lambda **_: FakeGraph(np_rng),
        data_type=types.SimpleNamespace(BFLOAT16="bfloat16", FLOAT="float32"),
        reduction_mode=types.SimpleNamespace(ADD="add"),
        heur_mode=types.SimpleNamespace(A="a", FALLBACK="fallback"),
    )
    _, tensors = conv_graphs.build(graph, LEVEL, BATCH, fake)
    return {name: tensor.value for name, tensor in tensors.items()}


class ConvGraphsTest(parameterized.TestCase):
    def test_levels_are_those_of_the_network(self):
        config = config_file.load(config_file.resolve("covidqu"))
        params = system.make_system(config).abstract_params()
        forwards, gradients = collections.Counter(), collections.Counter()
        for block in params.values():
            for name, layer in block.items():
                if name.startswith("conv_"):
                    forwards[layer["kernel"].shape[-1]] += 1
                    gradients[layer["kernel"].shape[-1]] += name == "conv_1"
        want = [(channels, forwards[channels], gradients[channels]) for channels in forwards]
        got = [(level.channels, level.forwards, level.gradients) for level in conv_graphs.LEVELS]
        assert sorted(got) == sorted(want)
        sizes = [config.data.image_size // 2**i for i in range(len(config.model.widths))]
        assert [level.size for level in conv_graphs.LEVELS] == sizes

    @parameterized.parameters(*conv_graphs.GRAPHS)
    def test_a_graph_computes_what_stands_around_a_convolution(self, graph):
        got = computed(graph)
        if graph.is_gradient:

            def loss(x):  # x is before the ReLU; its gradient is y.
                rectified = jnp.maximum(x, 0) if graph.masks else x
                return jnp.sum(convolve(rectified, got["kernel"]) * got["x"])

            want = jax.grad(loss)(got.get("mask", got["y"]))
        else:
            x = got["x"]
            if graph.normalises:
                x = jnp.maximum(x * got["scale"] + got["shift"], 0)
            want = convolve(x, got["kernel"])
        np.testing.assert_allclose(got["y"], want, atol=1e-5)
        assert ("sum" in got) == graph.sums
        if graph.sums:
            products = want * got.get("factor", want)
            for name, value in (("sum", want), ("sum_of_products", products)):
                total = np.sum(value, (0, 2, 3), keepdims=True)
                np.testing.assert_allclose(got[name], total, atol=1e-4)

    def test_strides_put_channels_innermost(self):
        array = np.empty((2, 5, 6, 3), np.uint8).transpose(0, 3, 1, 2)
        assert conv_graphs.channels_last(array.shape) == list(array.strides)

    def test_a_graph_gains_the_passes_that_it_spares(self):
        graph = conv_graphs.Graph("three", spared=3)
        # One pass over 2 x 4 x 4 x 3 bfloat16 is 192 bytes, 0.192 s at 1000 bytes a second.
        gain = conv_graphs.gain_of(graph, LEVEL, BATCH, plain=1.0, seconds=1.5, bandwidth=1000)
        np.testing.assert_allclose(gain, 0.076)

    def test_a_wrong_sum_is_noticed(self):
        total = np.full((1, 3, 1, 1), 32.0)
        data = {"y": np.ones((2, 3, 4, 4)), "sum": total, "sum_of_products": total}
        assert conv_graphs.error_of_sums(data) == 0
        np.testing.assert_allclose(conv_graphs.error_of_sums(data | {"sum": 1.5 * total}), 0.5)


class Memory:
    """An array of a GPU that PyTorch allocated."""

    def __init__(self, value):
        self.value = np.array(value)

    def zero_(self):
        self.value[:] = 0

    def float(self):
        return self.value


class Plans:
    """A graph with a fast plan whose sums are wrong, a right one, and a right but slower one."""

    def __init__(self):
        self.executed = -1

    def get_execution_plan_count(self):
        return 3

    def build_plan_at_index(self, index):
        pass

    def get_workspace_size_plan_at_index(self, index):
        return 0

    def get_plan_name_at_index(self, index):
        return f"plan {index}"

    def execute_plan_at_index(self, arguments, workspace, index, handle):
        assert handle == "handle"
        self.executed = index
        for name in conv_graphs.SUMS:  # Adds to what is there, as blocks of threads do.
            arguments[name].value += 1.5 if index == 0 else 1


def test_the_fastest_right_plan_is_chosen(monkeypatch):
    plans = Plans()
    values = {"y": np.ones((1, 1, 1, 1)), "sum": np.full((1, 1, 1, 1), 9.0)}
    values["sum_of_products"] = values["sum"]

    def seconds(run, torch):
        run()
        return 1.0 + plans.executed

    monkeypatch.setattr(conv_graphs, "build", lambda *_, handle: (plans, {n: n for n in values}))
    monkeypatch.setattr(conv_graphs, "_example", lambda name, *_: Memory(values[name]))
    monkeypatch.setattr(conv_graphs, "_seconds", seconds)
    torch = types.SimpleNamespace(empty=lambda *_, **__: None, uint8=None)
    got = conv_graphs.measure(conv_graphs.GRAPHS[1], LEVEL, BATCH, torch, None, "handle")
    assert got == (2.0, "plan 1")


@pytest.fixture
def fake_gpu(monkeypatch):
    """A GPU that copies 1 TB/s, computes a level in 1 ms, and has no plan for masks."""

    class NotSupportedError(Exception):
        pass

    def measure(graph, level, batch, torch, cudnn, handle):
        if graph.masks and not graph.sums:
            raise NotSupportedError("no plan")
        return (0.0012 if graph.sums and level.size < 256 else 0.001), "eng4"

    monkeypatch.setattr(conv_graphs, "measure", measure)
    monkeypatch.setattr(conv_graphs, "measure_bandwidth", lambda torch: 1e12)
    return types.SimpleNamespace(
        cudnnGraphNotSupportedError=NotSupportedError, create_handle=lambda: None
    )


def test_it_says_what_a_step_gains_and_what_cudnn_cannot(fake_gpu):
    rows = list(conv_graphs.measure_all(1, 60, None, fake_gpu))
    missing = [row["graph"] for row in rows if row.get("not_available") == "no plan"]
    assert missing == ["gradient, mask"] * len(conv_graphs.LEVELS)
    sums = [row for row in rows if row["graph"] == "forward, sums"]
    # One pass over 256 x 256 x 64 is 8.39 us at 1 TB/s; on the other levels the graph loses.
    np.testing.assert_allclose(sums[0]["gains_ms"], 0.00839, rtol=1e-3)
    np.testing.assert_allclose(sums[1]["gains_ms"], 0.00419 - 0.2, rtol=1e-3)
    np.testing.assert_allclose(sums[-1]["step_gains_ms"], 4 * 0.00839, rtol=1e-3)


def test_it_stops_when_time_is_up(fake_gpu):
    assert list(conv_graphs.measure_all(1, -1, None, fake_gpu)) == []
