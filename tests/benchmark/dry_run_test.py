"""What a dry run says of patches, and that it compiles what training compiles."""

import json
import types

import jax
import numpy as np
import pytest

from jaxlung.benchmark import dry_run
from jaxlung.config import config_file
from jaxlung.data.feed import order, pipeline
from jaxlung.training import system
from tests import array_source


def load(spec, **data):
    config = config_file.load(config_file.resolve(spec))
    config.data.update(data)
    return config


@pytest.fixture
def no_compilation(monkeypatch):
    """Compiling takes long; FLOPs are counted before."""
    lowered = types.SimpleNamespace(compile=lambda: None)
    monkeypatch.setattr(jax.stages.Traced, "lower", lambda self: lowered)
    monkeypatch.setattr(dry_run, "memory_bytes", lambda compiled: 1)


def test_a_ct_networks_cost_is_told_per_patch(no_compilation):
    spec = "covid19_ct:attention=none,paspp=false,deep_supervision=false,quick"
    costs = [dry_run.dry_run(load(spec, batch_size=batch_size)) for batch_size in (4, 8)]
    assert list(costs[0]) == ["parameters", "flops_per_patch", "memory_bytes"]
    assert json.loads(json.dumps(costs[0])) == costs[0]
    assert costs[0] == costs[1]  # Twice the patches, twice the work.


def test_parts_of_a_batch_are_all_counted(no_compilation):
    config = load("covidqu:quick", batch_size=8)
    whole = dry_run.dry_run(config)
    config.step.microbatches = 2
    assert dry_run.dry_run(config) == whole


def test_the_abstract_batch_is_what_the_feed_sends():
    parts = system.make_system(load("covidqu:quick", placement="host"))
    source = array_source.ArraySource(8)
    feed = pipeline.open_feed(source, parts.settings, parts.shardings, "train")
    (item,) = feed.items(order.in_turn(8), parts.settings.batch_size, order.one_by_one(0, 1))
    want = dry_run.abstract_item(parts, parts.settings.batch_size)
    assert item.keys() == want.keys()
    for name, array in item.items():
        assert (array.shape, array.dtype) == (want[name].shape, want[name].dtype)
        assert array.sharding.is_equivalent_to(want[name].sharding, array.ndim)


def test_memory_counts_an_argument_that_is_written_over_once():
    x = np.zeros((1000, 1000), np.float32)
    fresh = jax.jit(lambda x: x + 1).lower(x).compile()
    reused = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
    assert dry_run.memory_bytes(fresh) == pytest.approx(2 * x.nbytes, rel=0.01)
    assert dry_run.memory_bytes(reused) == pytest.approx(x.nbytes, rel=0.01)
