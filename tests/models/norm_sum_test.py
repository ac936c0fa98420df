"""Sums of BatchNorms with their own gradient against Flax's, differentiated by JAX."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxlung.models import norm_sum

SHAPE = (2, 3, 4, 6, 5)
FORMS = [("one", 1, False), ("two", 2, False), ("one_and_rest", 1, True), ("three", 3, True)]


def inputs(num_terms, dtype="float32", shape=SHAPE):
    """Arrays and as many scales, biases, means and variances; the rest; weights of the loss."""
    rng = np.random.default_rng(0)
    xs = [jnp.asarray(rng.normal(0.7, 2.0, shape), dtype) for _ in range(num_terms)]
    norms = []
    for _ in range(num_terms):
        scale, bias, mean, var = rng.normal(0.5, 0.7, (4, shape[-1])).astype(np.float32)
        params, stats = {"scale": scale, "bias": bias}, {"mean": mean, "var": np.abs(var)}
        norms.append({"params": params, "batch_stats": stats})
    rest, weights = (rng.normal(size=shape) for _ in range(2))
    return xs, norms, jnp.asarray(rest, dtype), weights.astype(np.float32)


def textbook(xs, norms, rest, still):
    norm = nn.BatchNorm(still, momentum=0.9, epsilon=1e-5, dtype=xs[0].dtype)
    pairs = zip(xs, norms, strict=True)
    ys, stats = zip(*(norm.apply(n, x, mutable=["batch_stats"]) for x, n in pairs), strict=True)
    return nn.relu(sum(ys) if rest is None else sum(ys) + rest), stats


def ours(xs, norms, rest, still):
    norm, terms, stats = norm_sum.BatchStatistics(), [], []
    for x, variables in zip(xs, norms, strict=True):
        term, new = norm.apply(variables, x, use_running_average=still, mutable=["batch_stats"])
        terms.append(term)
        stats.append(new)
    return norm_sum.add_relu(tuple(terms), rest), tuple(stats)


def results(form, xs, norms, rest, weights, still=False):
    """Gradients for the arrays, the parameters and the rest; output and new statistics."""

    def loss(xs, params, rest):
        variables = [n | {"params": p} for n, p in zip(norms, params, strict=True)]
        y, stats = form(xs, variables, rest, still)
        return jnp.sum(y.astype(jnp.float32) * weights), (y, stats)

    grad_fn = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))
    return grad_fn(xs, [n["params"] for n in norms], rest)


def assert_near(got, want, tolerance=2e-5):
    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)

    jax.tree.map(check, got, want)


class AddReluTest(parameterized.TestCase):
    @parameterized.named_parameters(*FORMS)
    def test_equals_flax_in_values_statistics_and_gradients(self, num_terms, has_rest):
        xs, norms, rest, weights = inputs(num_terms)
        rest = rest if has_rest else None
        got, want = (results(form, xs, norms, rest, weights) for form in (ours, textbook))
        assert_near(got, want)

    def test_running_statistics_are_used_and_stay(self):
        xs, norms, rest, weights = inputs(2)
        got, want = (results(form, xs, norms, rest, weights, True) for form in (ours, textbook))
        assert_near(got, want)

    @parameterized.named_parameters(*FORMS)
    def test_bfloat16_is_no_further_from_float32_than_flax(self, num_terms, has_rest):
        xs, norms, rest, weights = inputs(num_terms, "bfloat16", (4, 4, 16, 16, 8))
        rest = rest if has_rest else None
        whole = jax.tree.map(lambda x: x.astype(jnp.float32), (xs, rest))
        exact = results(textbook, whole[0], norms, whole[1], weights)
        got, want = (results(form, xs, norms, rest, weights) for form in (ours, textbook))
        assert jax.tree.map(lambda x: x.dtype, got) == jax.tree.map(lambda x: x.dtype, want)

        def error(x, exact):
            return float(jnp.linalg.norm((x.astype(jnp.float32) - exact).ravel()))

        for a, b, c in zip(*map(jax.tree.leaves, (got, want, exact)), strict=True):
            # Equal but for the order of sums.
            assert error(a, c) <= 1.01 * error(b, c) + 1e-6 * float(jnp.linalg.norm(c.ravel()))

    def test_variables_have_flaxs_names_shapes_and_values(self):
        x = jnp.zeros((2, 4, 4, 4, 3), jnp.bfloat16)
        got = norm_sum.BatchStatistics().init(jax.random.key(0), x, use_running_average=False)
        want = nn.BatchNorm().init(jax.random.key(0), x, use_running_average=False)
        jax.tree.map(np.testing.assert_array_equal, got, want)


class SumsTest(parameterized.TestCase):
    @parameterized.product(num_terms=[1, 2], width=[6, 32])
    def test_the_gpus_form_has_the_same_sums(self, num_terms, width):
        xs, norms, rest, weights = inputs(num_terms, shape=(2, 2, 3, width, 4))
        vectors = [n["params"] | n["batch_stats"] for n in norms]
        terms = tuple(
            norm_sum.Normed(x, v["mean"], v["var"], v["scale"], v["bias"], jnp.float32(1))
            for x, v in zip(xs, vectors, strict=True)
        )
        got = jax.jit(norm_sum._sums_on_cuda)(terms, rest, jnp.asarray(weights))
        want = norm_sum._sums(terms, rest, jnp.asarray(weights))
        assert len(got) == num_terms + 1
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, want)
