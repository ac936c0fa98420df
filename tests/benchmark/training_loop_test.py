"""The parts of the training loop: which items they take, and what came from the cache."""

import time

import jax
import numpy as np

from benchmarks import cases
from jaxlung.benchmark import data, loop
from jaxlung.data.feed import order, pipeline
from jaxlung.training import system as system_lib


def test_training_goes_through_the_feeds_items_and_the_step_alone_stays_with_one():
    config = cases.load("covidqu:quick", {})
    system = system_lib.make_system(config)
    source, _ = data.open_source(config, system.settings)
    feed = pipeline.open_feed(source, system.settings, system.shardings, "train")
    training = loop.Loop(system, feed, system.init_state(), config.seed)
    want = list(feed.items(order.shuffled(0, 256), 4, order.one_by_one(0, 5)))
    taken = []
    dispatch = training._dispatch
    training._dispatch = lambda item: (taken.append(item), dispatch(item))[1]
    training.step(2)
    training.train(2)
    training.draw(1)
    assert int(training.state.step) == 4
    # The loop drew the first item to compile; drawing alone took the fourth.
    for got, position in zip(taken, (0, 0, 1, 2), strict=True):
        np.testing.assert_array_equal(got, want[position])
    np.testing.assert_array_equal(next(training._items), want[4])


def test_a_compiled_step_says_if_it_came_from_the_cache(tmp_path):
    def compile_twice():
        for _ in range(2):
            jax.clear_caches()
            with loop._cache_hits() as hits:
                jax.jit(lambda x: x * 3 + 1).lower(1.0).compile()
            yield bool(hits)

    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        assert list(compile_twice())[1]
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
    with loop._cache_hits() as hits:
        jax.jit(lambda x: x - np.float32(time.time_ns() % 10**6)).lower(1.0).compile()
    assert not hits
