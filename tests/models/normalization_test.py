"""BatchNorm with its own gradient against Flax's, differentiated by JAX."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxlung.models import normalization
from tests.models import gpu_forms

FORMS = [("alone", False, False), ("relu", True, False), ("relu_pool", True, True)]


def inputs(shape, dtype="float32"):
    """An array of mean 0.7, the layer's variables, and weights of the loss."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(0.7, 2.0, shape), dtype)
    vectors = rng.normal(1.0, 0.5, (4, shape[-1])).astype(np.float32)
    scale, bias, mean, var = vectors
    variables = {
        "params": {"scale": scale * np.where(np.arange(shape[-1]) % 2, -1, 1), "bias": bias - 1},
        "batch_stats": {"mean": mean, "var": np.abs(var)},
    }
    return x, variables, rng.normal(size=(2, *shape)).astype(np.float32)


def textbook(x, variables, relu, pool, dtype, still=False):
    norm = nn.BatchNorm(momentum=0.9, epsilon=1e-5, dtype=dtype, use_running_average=still)
    y, updated = norm.apply(variables, x, mutable=["batch_stats"])
    y = nn.relu(y) if relu else y
    return (y, nn.max_pool(y, (2, 2), (2, 2)) if pool else None), updated["batch_stats"]


def ours(x, variables, relu, pool, dtype, still=False):
    norm = normalization.BatchNorm(relu, pool, dtype)
    y, updated = norm.apply(variables, x, use_running_average=still, mutable=["batch_stats"])
    return (y if pool else (y, None)), updated["batch_stats"]


def results(form, x, variables, weights, *settings):
    """Output, new statistics, and the gradients for the input and the parameters."""

    def loss(x, params):
        outputs, stats = form(x, variables | {"params": params}, *settings)
        pairs = zip(jax.tree.leaves(outputs), weights, strict=False)
        sums = [jnp.sum(y.astype(jnp.float32) * w[:, : y.shape[1], : y.shape[2]]) for y, w in pairs]
        return sum(sums), (outputs, stats)

    grad_fn = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    return grad_fn(x, variables["params"])


class BatchNormTest(parameterized.TestCase):
    @parameterized.product(
        relu_pool=[(False, False), (True, False), (True, True)], form=["default", "cuda"]
    )
    def test_equals_flax_in_values_statistics_and_gradients(self, relu_pool, form):
        self.enter_context(gpu_forms.use(form))
        relu, pool = relu_pool
        x, variables, weights = inputs((3, 6, 10, 5))
        got = results(ours, x, variables, weights, relu, pool, "float32")
        want = results(textbook, x, variables, weights, relu, pool, "float32")
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), got, want)

    def test_volumes_and_vectors_are_normalised_too(self):
        for shape in ((2, 3, 4, 6, 5), (40, 5)):
            x, variables, _ = inputs(shape)
            (got, _), _ = ours(x, variables, True, False, "float32")
            (want, _), _ = textbook(x, variables, True, False, "float32")
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)

    @parameterized.named_parameters(*FORMS)
    def test_running_statistics_are_used_and_stay(self, relu, pool):
        x, variables, weights = inputs((3, 6, 10, 5))
        got = results(ours, x, variables, weights, relu, pool, "float32", True)
        want = results(textbook, x, variables, weights, relu, pool, "float32", True)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), got, want)
        np.testing.assert_array_equal(got[1][1]["mean"], variables["batch_stats"]["mean"])

    @parameterized.named_parameters(*FORMS)
    def test_bfloat16_is_no_further_from_float32_than_flax(self, relu, pool):
        x, variables, weights = inputs((4, 16, 16, 8), "bfloat16")
        exact = results(textbook, x.astype("float32"), variables, weights, relu, pool, "float32")
        got = results(ours, x, variables, weights, relu, pool, "bfloat16")
        want = results(textbook, x, variables, weights, relu, pool, "bfloat16")
        assert jax.tree.map(lambda a: a.dtype, got) == jax.tree.map(lambda a: a.dtype, want)

        def error(a, exact):
            return float(jnp.linalg.norm((a.astype(jnp.float32) - exact).ravel()))

        for a, b, c in zip(*map(jax.tree.leaves, (got, want, exact)), strict=True):
            # Equal but for the order of sums: 1 %, and one unit of float32 in the last place.
            assert error(a, c) <= 1.01 * error(b, c) + 1e-6 * float(jnp.linalg.norm(c.ravel()))

    def test_a_constant_channel_has_finite_gradients(self):
        x, variables, weights = inputs((3, 6, 10, 5))
        got = results(ours, x.at[..., 2].set(0.3), variables, weights, True, True, "float32")
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(got))

    def test_variables_have_flaxs_names_shapes_and_values(self):
        x = jnp.zeros((2, 4, 4, 3), jnp.bfloat16)
        got = normalization.BatchNorm().init(jax.random.key(0), x, use_running_average=False)
        want = nn.BatchNorm().init(jax.random.key(0), x, use_running_average=False)
        jax.tree.map(np.testing.assert_array_equal, got, want)
