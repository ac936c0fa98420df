"""What the compilers for an H200 and for TPUs say of small configs, where they are installed."""

import json
import types

import jax
import pytest

from jaxlung.benchmark import compiled, device_peaks, targets
from jaxlung.config import config_file
from jaxlung.training import system as system_lib

IMAGES = {
    "model.widths": (32, 64, 128),
    "data.image_size": 64,
    "data.batch_size": 16,
    "data.eval_batch_size": 16,
    "model.dtype": "bfloat16",
}
PATCHES = {
    "model.widths": (32, 64, 64),
    "model.strides": ((2, 2, 2), (2, 2, 2)),
    "model.attention": "none",
    "model.paspp": False,
    "data.patch_size": (16, 64, 64),
    "data.batch_size": 4,
    "data.eval_batch_size": 4,
    "model.dtype": "bfloat16",
}


def describe(name):
    try:
        return targets.describe(name)
    except ValueError as error:
        if "is not installed" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture
def compile_step():
    """Returns a function that compiles the training step of a shipped config, changed."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)

    def run(spec, fields, target):
        config = config_file.load(config_file.resolve(spec))
        config.update_from_flattened_dict(fields)
        (found,) = compiled.run(config, describe(target), ["train"])
        assert json.loads(json.dumps(found))["memory"]["fits"]
        assert f"{found['target'].partition(':')[0]}, mesh" in compiled.table(found)
        return found

    yield run
    jax.config.update("jax_enable_compilation_cache", before)


def outside(found):
    return found["bytes"]["products"] + found["bytes"]["other"]


def conv_outputs(batch_size, side, widths):
    """Bytes of the results of a U-Net's 3 x 3 convolutions: two at each place, in bfloat16."""
    sizes = [(side >> level) ** 2 * width for level, width in enumerate(widths)]
    return 2 * batch_size * (4 * sum(sizes[:-1]) + 2 * sizes[-1])


# Passes over the results of all convolutions. BatchNorm and ReLU need eight: statistics (1),
# normalise (2), and backward the sums (2) and the gradient (3). A concatenation of half of them
# (an encoder's last result and an up-convolution's) moves 2 forward and 1 backward, pooling
# together with its gradient 1, and up-convolutions 2. The gradients' copies, metrics and Adam
# have the rest: the parameters are small here.
PASSES = 17


def test_a_step_on_an_h200_makes_few_passes_and_turns_nothing(compile_step):
    found = compile_step("covidqu", IMAGES, "h200")
    passes = outside(found) / conv_outputs(16, 64, (32, 64, 128))
    assert 8 < passes < PASSES
    assert found["collectives"] == {}
    assert found["bytes"]["channels_first"] == 0
    assert found["bytes"]["turned"] < 0.1 * outside(found)
    assert found["unknown_loops"] == 0


def test_volumes_on_an_h200_have_channels_last(compile_step):
    found = compile_step("covid19_ct", PATCHES, "h200")
    assert found["bytes"]["channels_first"] == 0
    # Without the option it is two fifths; an up-convolution's gradient turns its own.
    assert found["bytes"]["turned_volumes"] < 0.1 * outside(found)


def test_several_h200_send_gradients_and_statistics_and_gather_nothing(compile_step):
    found = compile_step("covidqu", IMAGES, "h200:2")
    assert found["mesh"] == [2, 1]
    assert list(found["collectives"]) == ["all-reduce"]


@pytest.mark.slow  # Compiling for TPUs takes half a minute for the smallest network.
def test_four_tpus_send_gradients_and_statistics_and_gather_nothing(compile_step):
    found = compile_step("covidqu", IMAGES | {"model.widths": (8, 16)}, "v5e:2x2")
    assert (found["num_devices"], found["mesh"]) == (4, [4, 1])
    assert list(found["collectives"]) == ["all-reduce"]
    # XLA counts what stays on the chip as well: here nearly everything, because it is so small.
    moved = found["bytes"]
    assert 0.5 < (moved["total"] + moved["on_chip"]) / moved["xla"] < 1.1
    assert moved["on_chip"] > moved["total"]


def test_a_system_for_described_devices_is_of_their_kind():
    config = config_file.load(config_file.resolve("covidqu:quick"))
    system = system_lib.make_system(config, describe("h200:2").devices)
    assert (system.platform, system.shardings.mesh.size) == ("gpu", 2)
    assert system.steps_per_dispatch == system_lib.STEPS_PER_DISPATCH
    assert isinstance(system.seed, jax.ShapeDtypeStruct)
    assert all(x.sharding.mesh == system.shardings.mesh for x in jax.tree.leaves(system.seed))


def test_a_ring_sends_all_but_a_devices_own_part_and_sums_twice():
    def seconds(sent, name, count, platform="gpu"):
        peaks = device_peaks.PEAKS[name]
        device = types.SimpleNamespace(platform=platform)
        return compiled.link_seconds(sent, count, targets.Target(name, (device,), peaks, {}))

    sums = {"all-reduce": (40, 450_000_000)}
    assert seconds({}, "H200", 1) == 0.0
    assert seconds(sums, "H200", 8) == pytest.approx(2 * 7 / 8 * 1e-3)
    assert seconds({"all-gather": (1, 450_000_000)}, "H200", 8) == pytest.approx(7 / 8 * 1e-3)
    both = sums | {"collective-permute": (2, 450_000_000)}
    assert seconds(both, "H200", 2) == pytest.approx(1e-3 + 1e-3)
    assert seconds(sums, "H200", 16) is None  # Between hosts.
    assert seconds(sums, "TPU v5e", 256, "tpu") == pytest.approx(2 * 255 / 256 * 0.45 / 200)
    assert seconds(sums, "TPU v4", 4, "tpu") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h300", "want one of a100, h100, h200, several as h200:8, or v5e, v5p"),
        ("h200:0", "got 'h200:0', want a number of devices, as h200:8"),
        ("h200:12", "want at most 8 devices or a multiple"),
        ("v5e", "got 'v5e', want a topology, as v5e:2x2"),
        ("v5p:8", "want a topology, as v5p:2x2x1"),
    ],
)
def test_a_target_that_is_none_is_told_with_what_can_be(name, message):
    with pytest.raises(ValueError, match=message):
        targets.describe(name)


def test_a_compiler_that_is_missing_is_told_with_its_extra(monkeypatch):
    def missing(error):
        def get_topology_desc(**_):
            raise error

        monkeypatch.setattr(targets.topologies, "get_topology_desc", get_topology_desc)

    missing(NotImplementedError("topology not implemented for cuda"))
    with pytest.raises(ValueError, match=r"NVIDIA GPUs is not installed: .*jaxlung\[target-cuda\]"):
        targets.describe("h200:8")
    missing(RuntimeError("JAX TPU support not installed; cannot generate TPU topology."))
    with pytest.raises(ValueError, match=r"TPUs is not installed: .*jaxlung\[target-tpu\]"):
        targets.describe("v5e:2x2")


def test_a_mesh_that_does_not_fit_the_target_is_told():
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.mesh.data = 3
    with pytest.raises(ValueError, match="mesh: got data=3 x space=1 = 3, want the number of dev"):
        next(compiled.run(config, describe("h200:2")))
