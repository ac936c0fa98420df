"""Every config: every variant is built, and its step is traced without data."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from jaxlung import config_file, system
from jaxlung.data import stream

VARIANTS = {
    "covidqu": ["", "phantom", "quick"],
    "folder": ["", "target=infection", "target=lung,quick"],
}
SPECS = [(name, arg) for name, args in VARIANTS.items() for arg in args]


def test_every_shipped_config_is_tested_here():
    assert list(VARIANTS) == list(config_file.shipped_configs())


@pytest.mark.parametrize(("name", "arg"), SPECS)
def test_step_keeps_the_shapes_of_the_state(name, arg):
    config = config_file.load(config_file.resolve(f"{name}:{arg}"))
    parts = system.make_system(config)
    state = parts.abstract_state()
    size = parts.settings.image_size
    array = jax.ShapeDtypeStruct((parts.settings.batch_size, size, size), jnp.uint8)
    step_fn = parts.jit_train_step(stream.take)
    batch = {"images": array, "masks": array}
    after, metrics = jax.eval_shape(step_fn, state, {}, batch, parts.seed)
    for before_leaf, after_leaf in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert (before_leaf.shape, before_leaf.dtype) == (after_leaf.shape, after_leaf.dtype)
    assert all(leaf.shape == () for leaf in metrics.values())


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_field_is_plain_and_literal(name):
    config = config_file.load(config_file.resolve(name)).to_dict()
    sections = [value for value in config.values() if isinstance(value, dict)]
    values = list(itertools.chain.from_iterable(section.values() for section in sections))
    plain = (bool, int, float, str, tuple, dict)
    assert all(isinstance(value, plain) for value in values)


def test_paper_000s_network_has_the_published_widths_and_31_million_parameters():
    parts = system.make_system(config_file.load(config_file.resolve("covidqu")))
    params = parts.abstract_state().params
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 31_036_482
