"""Meshes of devices: the same training as on one, and no more communication than it needs.

The devices are fake ones of a CPU; the programs are XLA's, partitioned as for others. Volumes take
the form of the layers that accelerators compile, unless a test says otherwise: on CPUs they lay
slices and batch in one axis, which `space` can't cut.
"""

import dataclasses
import functools
import os
import subprocess
import sys
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxlung.benchmark import collectives
from jaxlung.config import config_file
from jaxlung.data.feed import order, pipeline
from jaxlung.models import fv_block, layers, layers_3d, paspp
from jaxlung.parallel import sharding
from jaxlung.training import system as system_lib
from tests import array_source, volume_source

NUM_STEPS = 3
NEEDED = {"all-reduce"}  # Sums over the batch: gradients, statistics, scalars.
HALOS = {"collective-permute"}  # Rows or slices at the cut, for 3 x 3 windows.


def platform_default(*args, default, **_):
    """`jax.lax.platform_dependent` as if compiled for an accelerator."""
    return default(*args)


@dataclasses.dataclass
class Run:
    """A few steps, and what the compiled step sends."""

    losses: list[float]
    params: Any
    batch_stats: Any
    found: list[collectives.Collective]

    @property
    def totals(self):
        return collectives.totals(self.found)


def run(config, source, data, space):
    """Trains `NUM_STEPS` steps on a mesh of `data` x `space` devices."""
    config.mesh.update(data=data, space=space)
    devices = jax.devices()[: data * space]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "visible_devices", lambda: devices)
        patch.setattr(jax.lax, "platform_dependent", platform_default)
        system = system_lib.make_system(config)
        feed = pipeline.open_feed(source, system.settings, system.shardings, "train")
        example_at = order.shuffled(0, feed.num_examples)
        dispatches = order.one_by_one(0, NUM_STEPS)
        items = list(feed.items(example_at, system.settings.batch_size, dispatches))
        state = system.init_state()
        step_fn = system.jit_train_step(feed.take)
        step_fn = step_fn.lower(state, feed.store, items[0], system.seed).compile()
    losses = []
    for item in items:
        state, metrics = step_fn(state, feed.store, item, system.seed)
        losses.append(float(metrics["loss"][0]))
    found = collectives.parse(step_fn.as_text())
    return Run(losses, *jax.device_get((state.params, state.batch_stats)), found)


def load(name, changes):
    config = config_file.load(config_file.resolve(name))
    config.update_from_flattened_dict(changes)
    return config


@functools.cache
def run_images(data, space):
    changes = {"data.batch_size": 8, "data.eval_batch_size": 8}
    changes |= {"augment.flip_probability": 0.5, "augment.rotation_degrees": 5.0}
    return run(load("covidqu:quick", changes), array_source.ArraySource(10), data, space)


@functools.cache
def run_volumes(data, space):
    changes = {
        "data.patch_size": (8, 32, 32),
        "data.batch_size": 4,
        # Adam divides by a gradient's size and this. At 1e-8, what rounding does to one near 0
        # shows in full: parameters differed by 1.4e-5.
        "optimizer.eps": 1e-3,
        # No farther than what a device has of the deepest level, 4 x 8 x 8 voxels cut in 4.
        "model.paspp_rates": ((1, 1, 1), (1, 2, 2), (1, 1, 1), (1, 2, 2)),
    }
    source = volume_source.VolumeSource([(10, 36, 34)] * 3)
    return run(load("covid19_ct:quick", changes), source, data, space)


def num_params(run):
    return sum(leaf.size for leaf in jax.tree.leaves(run.params))


def assert_same_training(got, want):
    # Sums in another order: float32 rounding, of losses near 1.
    np.testing.assert_allclose(got.losses, want.losses, rtol=1e-6)
    # A fiftieth of the learning rate; measured 3e-7.
    close = functools.partial(np.testing.assert_allclose, atol=2e-6, rtol=1e-5)
    jax.tree.map(close, got.params, want.params)
    jax.tree.map(close, got.batch_stats, want.batch_stats)


def assert_sums_gradients_once(run, data, space):
    """All-reduces have the gradients' bytes once; statistics, scalars and no activations beside.

    On a mesh cut both ways XLA sums over one axis, then over the other. Gradients of what works on
    means over an image (attention gates) need no sum over `space`.
    """
    statistics = sum(leaf.size for leaf in jax.tree.leaves(run.batch_stats))
    gradients = 4 * num_params(run)
    # Of statistics: mean and mean square forward, as many sums backward. And scalars, the counts of
    # a confusion matrix, values of each image.
    most = gradients + 4 * 2 * statistics + 1000
    num_bytes = run.totals["all-reduce"].num_bytes
    assert num_bytes <= ((data > 1) + (space > 1)) * most
    assert num_bytes >= gradients or space > 1


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("data", "space"),
    [(4, 1), (1, 2), *(pytest.param(*m, marks=SLOW) for m in [(2, 1), (2, 2), (1, 4)])],
)
def test_images_train_alike_on_every_mesh_and_only_sums_and_halos_are_sent(data, space):
    got = run_images(data, space)
    assert_same_training(got, run_images(1, 1))
    assert set(got.totals) == NEEDED | (HALOS if space > 1 else set())
    assert_sums_gradients_once(got, data, space)


def test_halos_are_the_rows_at_the_cut_and_nothing_else():
    # 3 x 3 convolutions of covidqu:quick: width of the image, channels in and out.
    convs = [(32, 1, 4), (32, 4, 4), (16, 4, 8), (16, 8, 8), (32, 8, 4), (32, 4, 4)]
    row = 8 * 4  # images, bytes
    forward = sum(2 * row * width * channels for width, channels, _ in convs)
    # Of the gradient to each input; images have none.
    backward = sum(2 * row * width * channels for width, _, channels in convs[1:])
    got = run_images(1, 2).totals["collective-permute"].num_bytes
    # XLA sends the forward pass's rows a second time, for the kernels' gradients.
    assert forward + backward <= got <= 2 * forward + backward


def test_one_device_sends_nothing():
    assert run_images(1, 1).found == []


@SLOW
@pytest.mark.parametrize(("data", "space"), [(4, 1), (1, 2), (2, 2), (1, 4)])
def test_volumes_train_alike_on_every_mesh_and_only_sums_and_halos_are_sent(data, space):
    got = run_volumes(data, space)
    assert_same_training(got, run_volumes(1, 1))
    assert set(got.totals) == NEEDED | (HALOS if space > 1 else set())
    assert_sums_gradients_once(got, data, space)


EIGHT = """
import jax
from tests import parallel_test as p

assert jax.device_count() == 8
want = p.run_images(1, 1)
for data, space in [(8, 1), (4, 2), (2, 4), (1, 8)]:
    got = p.run_images(data, space)
    p.assert_same_training(got, want)
    p.assert_sums_gradients_once(got, data, space)
    assert set(got.totals) == p.NEEDED | (p.HALOS if space > 1 else set()), got.totals
"""


@SLOW
def test_eight_devices_train_alike():
    flags = os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=8")
    env = os.environ | {"XLA_FLAGS": flags}
    done = subprocess.run([sys.executable, "-c", EIGHT], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


BLOCKS = {
    "residual": (layers_3d.ResidualBlock(8, (2, 2, 2)), {}),
    "fv": (fv_block.FVBlock("se"), {}),
    "paspp": (paspp.PASPP(((1, 1, 1), (1, 2, 2), (2, 1, 1), (2, 2, 2))), {}),
    "up": (layers_3d.UpConv3D(8, (2, 2, 2)), None),
    "upsample": (nn.Dense(1), None),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_volumes_send_sums_and_halos_alone(name, monkeypatch):
    monkeypatch.setattr(jax.lax, "platform_dependent", platform_default)
    block, modes = BLOCKS[name]
    shards = sharding.make_shardings(data=2, space=2)
    x = jax.ShapeDtypeStruct((4, 8, 8, 8, 8), np.float32, sharding=shards.images)

    def outputs(variables, x):
        if modes is None:
            y = block.apply(variables, x)
            return layers.upsample(y, (2, 2, 2)) if name == "upsample" else y
        return block.apply(variables, x, train=True, mutable=["batch_stats"])[0]

    def gradients(variables, x):
        return jax.grad(lambda *args: jnp.mean(outputs(*args) ** 2), argnums=(0, 1))(variables, x)

    init = functools.partial(block.init, jax.random.key(0))
    if modes is not None:
        init = functools.partial(init, train=True)
    variables = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=shards.replicated),
        jax.eval_shape(init, x),
    )
    jitted = jax.jit(gradients, out_shardings=(shards.replicated, shards.images))
    found = collectives.parse(jitted.lower(variables, x).compile().as_text())
    halos = {"up": set(), "upsample": set()}.get(name, HALOS)
    assert {collective.kind for collective in found} == NEEDED | halos
    largest = max(4 * leaf.size for leaf in jax.tree.leaves(variables))
    sums = [shape for item in found if item.kind == "all-reduce" for shape in item.shapes]
    assert max(map(collectives.shape_bytes, sums)) <= largest


def test_statistics_are_of_the_global_batch():
    shards = sharding.make_shardings(data=2, space=2)
    # Each device's part has another mean.
    x = np.arange(4 * 4 * 2 * 3, dtype=np.float32).reshape(4, 4, 2, 3) ** 1.5

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.batch_norm(train=True, dtype="float32", name="norm")(x)

    variables = Net().init(jax.random.key(0), x)
    apply = jax.jit(functools.partial(Net().apply, mutable=["batch_stats"]))
    y, updated = apply(variables, jax.device_put(x, shards.images))
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    stats = updated["batch_stats"]["norm"]
    np.testing.assert_allclose(stats["mean"], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * var, rtol=1e-5)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-5)


def test_a_stray_gather_of_activations_would_be_seen():
    shards = sharding.make_shardings(data=1, space=4)
    x = jax.ShapeDtypeStruct((2, 8, 8, 4), np.float32, sharding=shards.images)
    whole = NamedSharding(shards.images.mesh, PartitionSpec())
    jitted = jax.jit(lambda x: jnp.sin(jax.lax.with_sharding_constraint(x, whole)))
    found = collectives.parse(jitted.lower(x).compile().as_text())
    assert collectives.totals(found) == {"all-gather": collectives.Total(1, 4 * 2 * 8 * 8 * 4)}
