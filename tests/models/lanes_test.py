"""Layers on volumes with slices in lanes against the same layers on volumes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxlung.models import fv_block, fv_paspp_unet, lanes, layers_3d

SLICES = 4
SHAPE = (2, SLICES, 6, 6, 4)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def assert_near(got, want, tolerance=5e-5, least=0.0):
    """Asserts equality within a tolerance times the largest value of a leaf, or `least`."""

    def check(a, b):
        np.testing.assert_allclose(a, b, atol=tolerance * max(np.abs(b).max(), least))

    jax.tree.map(check, got, want)


def volume(layer, *inputs):
    """A layer with slices in lanes, as a function of volumes and to volumes."""
    y = layer(*map(lanes.fold, inputs))
    return lanes.unfold(y, SLICES)


def results(function, *args):
    """Outputs of a function and the gradients of a weighted sum of them."""

    def loss(*args):
        y, *others = function(*args)
        weights = normal(*y.shape, seed=9)
        return jnp.sum(weights * y.astype(jnp.float32)), (y, others)

    run = jax.value_and_grad(loss, argnums=tuple(range(len(args))), has_aux=True)
    with jax.default_matmul_precision("highest"):
        return jax.jit(run)(*args)


class FunctionsTest(parameterized.TestCase):
    def test_unfold_undoes_fold(self):
        volumes = normal(2, 3, 4, 6, 5)
        folded = lanes.fold(volumes)
        np.testing.assert_array_equal(folded[1, 2, 3, 10:], volumes[1, 2, 2, 3])
        np.testing.assert_array_equal(lanes.unfold(folded, 3), volumes)

    def test_numbers_are_repeated_for_each_channel(self):
        x = normal(2, 3, 4, SLICES)
        np.testing.assert_array_equal(lanes.repeat(x, 3), jnp.repeat(x, 3, axis=-1))

    @parameterized.product(size=[1, 3], rows=[1, 2], parts=[1, 2])
    def test_convolution_equals_one_in_three_dimensions(self, size, rows, parts):
        xs = [normal(*SHAPE, seed=i) for i in range(parts)]
        kernel = normal(size, size, size, 4 * parts, 3, seed=5)

        def want(xs, kernel):
            strides, pad = (1, rows, rows), [(size // 2, size // 2)] * 3
            x = jnp.concatenate(xs, axis=-1)
            y = jax.lax.conv_general_dilated(
                x, kernel, strides, pad, dimension_numbers=layers_3d.AXES
            )
            return [y]

        def got(xs, kernel):
            x = jnp.concatenate([lanes.fold(x) for x in xs], axis=-1)
            y = lanes.conv(x, lanes.band(kernel, SLICES, parts), (rows, rows))
            return [lanes.unfold(y, SLICES)]

        assert_near(results(got, xs, kernel), results(want, xs, kernel), 1e-5)

    @parameterized.parameters((1, 2, 2), (2, 2, 2), (2, 1, 2))
    def test_up_convolution_equals_the_one_by_products(self, *strides):
        x = normal(*SHAPE)
        plain = layers_3d.UpConv3D(3, strides)
        params = plain.init(jax.random.key(0), x)
        params["params"]["bias"] = normal(3, seed=1)

        def got(x, params):
            y = plain.clone(slices=SLICES).apply(params, lanes.fold(x))
            return [lanes.unfold(y, SLICES * strides[0])]

        def want(x, params):
            return [plain.apply(params, x)]

        assert_near(results(got, x, params), results(want, x, params), 1e-5)


class BlocksTest(parameterized.TestCase):
    @parameterized.named_parameters(
        ("shortcut", layers_3d.ResidualBlock(6, (1, 2, 2)), 1),
        ("two_inputs", layers_3d.ResidualBlock(4), 2),
        ("se", fv_block.FVBlock("se"), 1),
        ("ce", fv_block.FVBlock("ce"), 1),
    )
    def test_values_statistics_and_gradients_are_equal(self, plain, num_inputs):
        inputs = [normal(*SHAPE, seed=i) for i in range(num_inputs)]
        got, want = (
            results(functools.partial(run_block, block, stats), params, inputs)
            for block, params, stats in variables_of(plain, inputs)
        )
        assert_near(got, want)

    def test_bfloat16_is_as_near_to_float32(self):
        plain, x = fv_block.FVBlock("se"), normal(*SHAPE)
        ((_, params, stats), _) = variables_of(plain, [x])

        def outputs(block):
            run = jax.jit(functools.partial(run_block, block, stats))
            return run(params, [x])[0].astype(jnp.float32)

        want = outputs(plain)
        half = plain.clone(dtype="bfloat16")
        errors = [
            np.sqrt(np.mean((outputs(block) - want) ** 2))
            for block in (half, half.clone(slices=SLICES))
        ]
        assert 0 < errors[1] < 1.1 * errors[0]  # Rounding differs; it is not worse.


def variables_of(plain, inputs):
    """A block on volumes and in lanes, with parameters and statistics that both start with."""
    init = functools.partial(plain.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(1)
    params, stats = (
        jax.tree.map(lambda leaf: rng.uniform(-0.5, 1, leaf.shape).astype(leaf.dtype), shapes[name])
        for name in ("params", "batch_stats")
    )
    return [(block, params, stats) for block in (plain, plain.clone(slices=SLICES))]


def run_block(block, stats, params, inputs):
    """The output, a volume, and the new statistics."""
    new = {}

    def layer(*inputs):
        both = {"params": params, "batch_stats": stats}
        y, updated = block.apply(both, *inputs, train=True, mutable=["batch_stats"])
        new.update(updated)
        return y

    y = volume(layer, *inputs) if block.slices else layer(*inputs)
    return y, new


class NetworkTest(parameterized.TestCase):
    """The network with its two finest levels in lanes against the same network without."""

    def make(self, widths=(4, 4, 4), **kwargs):
        rates = ((1, 1, 1),) * 4
        settings = dict(attention="none", reduction=2, paspp=False, paspp_rates=rates)
        settings |= dict(deep_supervision=True, num_classes=2, dtype="float32")
        strides = ((1, 2, 2), (2, 2, 2), (2, 2, 2))[: len(widths) - 1]
        return fv_paspp_unet.FvPasppUNet(widths, strides, **settings | kwargs)

    def test_initial_parameters_values_and_gradients_are_equal(self):
        plain, x = self.make(), normal(2, SLICES, 8, 8, 1)
        in_lanes = plain.for_platform("tpu")
        assert in_lanes._slices_in_lanes(SLICES) == [SLICES, SLICES, 0]
        variables, same = (
            jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), x)
            for model in (plain, in_lanes)
        )
        jax.tree.map(np.testing.assert_array_equal, same, variables)

        def run(model, params):
            both = {"params": params, "batch_stats": variables["batch_stats"]}
            outs, updated = model.apply(both, x, train=True, mutable=["batch_stats"])
            return jnp.concatenate(outs), updated

        got, want = (
            results(functools.partial(run, model), variables["params"])
            for model in (in_lanes, plain)
        )
        # BatchNorm takes the scale of a kernel of one channel away: its gradient is all but 0.
        assert_near(got, want, 2e-4, least=0.1)

    def test_only_few_slices_of_narrow_levels_on_tpus_are_in_lanes(self):
        paper = self.make((32, 64, 128, 256), attention="se")
        in_lanes = paper.for_platform("tpu")
        assert in_lanes._slices_in_lanes(8) == [8, 8, 0, 0]
        assert in_lanes._slices_in_lanes(16) == [16, 0, 0, 0]
        assert in_lanes._slices_in_lanes(32) == [0, 0, 0, 0]
        for platform in ("cpu", "gpu"):
            assert not any(paper.for_platform(platform)._slices_in_lanes(8))

    @parameterized.parameters(8, 16, 32)
    def test_every_depth_has_the_parameters_and_logits_of_its_size(self, depth):
        paper = self.make((32, 64, 128, 256), attention="ce", paspp=True, dtype="bfloat16")
        x = jax.ShapeDtypeStruct((1, depth, 32, 32, 1), jnp.float32)
        got, want = (
            jax.eval_shape(
                functools.partial(model.init_with_output, train=True), jax.random.key(0), x
            )
            for model in (paper.for_platform("tpu"), paper)
        )
        assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, want)
