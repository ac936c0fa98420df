"""What every test of a network needs: compiled calls, random variables, counts, layer tables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def images(*shape):
    return jnp.asarray(np.random.default_rng(0).random(shape, np.float32))


def init(model, x):
    """Variables of `model` off their special values: no bias is 0, no scale is 1. No compiling."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            fan_in = np.prod(leaf.shape[:-1])
            return rng.normal(0, np.sqrt(2 / fan_in), leaf.shape).astype(np.float32)
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return rng.normal(0, 0.1, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, abstract(model, x.shape))


@functools.cache
def _compiled(model, training):
    """`model.apply` as evaluation or as the training step calls it."""

    def predict_fn(variables, x):
        return model.apply(variables, x, train=False)

    def train_fn(variables, x, rng):
        return model.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": rng})

    return jax.jit(train_fn if training else predict_fn)


def predict(model, variables, x):
    # The oracles are in float64: no ambient setting may coarsen this.
    with jax.default_matmul_precision("highest"):
        return _compiled(model, False)(variables, x)


def train(model, variables, x, seed=0):
    """Logits and updated statistics."""
    with jax.default_matmul_precision("highest"):
        return _compiled(model, True)(variables, x, jax.random.key(seed))


def grads(model, variables, x):
    """Gradients of a random weighting of the logits with respect to the parameters."""
    params, stats = variables["params"], variables.get("batch_stats", {})

    def weighted(params):
        both = {"params": params, "batch_stats": stats}
        logits, _ = train(model, both, x)
        weights = np.random.default_rng(2).normal(size=logits.shape).astype(np.float32)
        return jnp.sum(logits * weights)

    return jax.jit(jax.grad(weighted))(params)


def without_gradient(model, variables, x):
    """Paths of the parameters that no output depends on."""
    leaves = jax.tree_util.tree_leaves_with_path(grads(model, variables, x))
    assert all(np.isfinite(leaf).all() for _, leaf in leaves)
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in leaves
        if not np.any(leaf)
    ]


@functools.cache
def abstract(model, shape, method="init", **kwargs):
    """Shapes of `model.init` or `init_with_output`; computes nothing."""
    call = functools.partial(getattr(model, method), train=False, **kwargs)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(call, jax.random.key(0), x)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def layer_shapes(model, shape):
    """What every layer puts out, by its path."""
    _, variables = abstract(model, shape, "init_with_output", capture_intermediates=True)
    table = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["intermediates"]):
        names = [str(entry.key) for entry in path if hasattr(entry, "key")]
        if names[-1] == "__call__":
            table.setdefault("/".join(names[:-1]), leaf.shape)
    return table
