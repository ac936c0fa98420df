"""What the compilers for an H200 and for TPUs say of small configs, where they are installed."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung import main
from jaxlung.benchmark import compiled, device_peaks, hlo, targets, traffic
from jaxlung.commands import train
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
    # Without the option all convolutions have channels first. An up-convolution turns its gradient.
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
    # Nearly everything stays on the chip, because it is so small. With the four images of a chip
    # in strips it would be 352 MB.
    moved = found["bytes"]
    assert 100e6 < moved["total"] + moved["on_chip"] < 200e6
    assert moved["on_chip"] > moved["total"]


@pytest.mark.slow  # TPUs again.
@pytest.mark.parametrize("channels", [128, 16])
def test_bytes_on_a_tpu_are_those_that_xla_counts(channels):
    def layer(images, kernel):
        spec = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=spec)
        exact = y.astype(jnp.float32)
        means, squares = (x.mean((0, 1, 2), keepdims=True) for x in (exact, jnp.square(exact)))
        return jax.nn.relu((exact - means) * squares).astype(y.dtype)

    mesh = jax.sharding.Mesh(np.array(describe("v5e:2x2").devices[:1]), "data")
    where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    shapes = [(16, 64, 64, channels), (3, 3, channels, channels)]
    args = [jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=where) for shape in shapes]
    program = jax.jit(layer).trace(*args).lower().compile()
    everywhere = hlo.parse(program.as_text().replace("S(1)", ""))  # XLA counts the chip's too.
    moves = traffic.find(everywhere)
    # XLA takes the start of a copy for three arrays and its end for another.
    again = 2 * sum(move.num_read for move in moves if move.name.startswith("copy-start"))
    want = program.cost_analysis()["bytes accessed"]
    assert traffic.total(moves) + again == pytest.approx(want, rel=1e-3)


def test_what_was_compiled_is_a_table_for_each_program_and_json_at_the_end(monkeypatch, capsys):
    found = {
        "target": "v5e:2x2",
        "program": "train",
        "num_devices": 4,
        "mesh": [2, 2],
        "batch_size": 16,
        "unit": "image",
        "dtype": "bfloat16",
        "compile_seconds": 77.4,
        "memory": {
            "arguments": 2**30,
            "temporaries": 2**34,
            "usable": 16e9,
            "device": 16e9,
            "fits": False,
        },
        "flops": 1.5e12,
        "bytes": {
            **{"convolutions": 3e9, "products": 1e9, "other": 7e9, "total": 11e9, "xla": 12e9},
            **{"on_chip": 1e9, "turned": 5e8, "channels_first": 2e9},
        },
        "collectives": {"all-reduce": (40, 124_000_000)},
        "unknown_loops": 2,
        "least_seconds": {"products": 7.6e-3, "memory": 13.4e-3, "links": 1e-3, "source": "S"},
        "largest": [
            {"bytes": 537e6, "kind": "turn", "layer": "up_0, backward", "shapes": "bf16[16]"}
        ],
    }
    monkeypatch.setattr(targets, "describe", lambda name: name)
    monkeypatch.setattr(compiled, "run", lambda config, target, programs: iter([found] * 2))
    argv = ["jaxlung", "train", "--config=covidqu", "--dry_run", "--target=v5e:2x2"]
    _, start = main.parse(argv)
    assert start() == 0
    told = capsys.readouterr().out
    assert json.loads(told.splitlines()[-1]) == json.loads(json.dumps([found, found]))
    assert told.count("train: 4 x v5e, mesh 2 x 2, batch 16, bfloat16, compiled in 77 s.") == 2
    for part in (
        "1.00 GiB of arguments, 16.00 GiB of temporaries; does NOT fit into 14.90 GiB",
        "8.00 GB outside (1.000 GB for each image), of it 1.00 GB in products; 1.00 GB on the chip",
        "0.50 GB by transposes and copies, 2.00 GB in convolutions with channels first",
        "40 all-reduce: 124.0 MB",
        "7.60 ms for products, 13.40 ms for memory, 1.00 ms for links (S)",
        "2 instructions in loops of unknown length",
        "0.537 GB  turn        up_0, backward",
    ):
        assert part in told


def test_the_command_line_knows_the_programs():
    assert tuple(compiled.PROGRAMS) == train.PROGRAMS


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
