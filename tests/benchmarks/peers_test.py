"""The comparison with PyTorch: what it counts, what it says, and (with PyTorch) that it is fair."""

import json
import pathlib
import sys

import numpy as np
import pytest
from absl.testing import parameterized

from benchmarks.peers import cases, check, data, measure, protocol
from benchmarks.peers import run as peers_run

ECHO = """
import sys
from benchmarks.peers import protocol

def fail():
    raise MemoryError("no room\\nfor details")

print("noise before")
protocol.serve({"double": lambda x: {"x": 2 * x}, "fail": fail, "end": lambda: sys.exit(3)})
"""


class Clock:
    """A side whose step takes `each` seconds and whose runs start in `overhead`."""

    def __init__(self, name, each, log, batch=1):
        self.name, self.each, self.log, self.batch = name, each, log, batch

    def __call__(self, steps):
        steps = -(-steps // self.batch) * self.batch
        self.log.append((self.name, steps))
        return {"seconds": steps * self.each, "steps": steps}


class MeasureTest(parameterized.TestCase):
    def test_rates_are_images_per_second_of_the_steps_that_were_taken(self):
        log = []
        got = measure.alternate(
            Clock("jax", 0.01, log, batch=10), Clock("torch", 0.04, log), 8, 2.0, 3
        )
        np.testing.assert_allclose(got["jax"]["median"], 800)
        np.testing.assert_allclose(got["torch"]["median"], 200)
        np.testing.assert_allclose(got["ratio"]["median"], 4)
        pair = [("jax", 200), ("torch", 50)]
        assert log[-6:] == [*pair, *reversed(pair), *pair]

    def test_the_ratio_is_of_pairs_and_not_of_medians(self):
        rng = np.random.default_rng(0)
        slow = rng.uniform(0.2, 1.0, 7)  # The machine's mood, the same for both of a pair.
        pairs = list(zip(300 * slow, 100 * slow, strict=True))
        got = measure.summarise(pairs)
        np.testing.assert_allclose(list(got["ratio"].values()), 3)
        np.testing.assert_allclose(got["jax"]["median"], np.median(300 * slow))
        np.testing.assert_allclose(got["torch"]["most"], 100 * slow.max())

    def test_a_case_that_failed_is_a_row_with_its_reason(self):
        row = {"case": "a", "source": "memory", "mode": "compile"}
        good = row | measure.summarise([(20.0, 10.0), (30.0, 10.0), (40.0, 10.0)])
        text = measure.table([good, row | {"error": "InductorError: no | compiler"}])
        lines = text.splitlines()
        assert "| 30.0 (20.0 to 40.0) | 10.0 (10.0 to 10.0) | 3.00 (2.00 to 4.00) |" in lines[2]
        assert "not run: InductorError: no / compiler" in lines[3]
        assert len({line.count("|") for line in lines}) == 1


def test_a_worker_answers_refuses_and_ends(tmp_path):
    (tmp_path / "echo.py").write_text(ECHO)
    root = pathlib.Path(peers_run.__file__).parents[2]
    environ = {"PYTHONPATH": f"{tmp_path}:{root}"}
    with protocol.Worker(sys.executable, "echo", environ) as worker:
        assert worker.ask("double", x=21) == {"x": 42}
        with pytest.raises(protocol.Refused, match="MemoryError: no room"):
            worker.ask("fail")
        assert worker.ask("double", x=1) == {"x": 2}  # It lives on.
        with pytest.raises(protocol.Refused, match="echo ended with code 3"):
            worker.ask("end")


class CasesTest(parameterized.TestCase):
    @parameterized.parameters(*cases.CASES)
    def test_every_case_is_a_config_without_augmentation(self, name):
        case = cases.find(name)
        config = cases.load_config(case, dtype="bfloat16", source="loader", num_threads=3)
        assert config.data.batch_size == case.changes["data.batch_size"]
        assert config.model.dtype == "bfloat16"
        assert (config.data.placement, config.data.num_threads) == ("host", 3)
        assert not np.any(config.augment.flip_probability)
        assert config.augment.zoom_range == (1.0, 1.0)
        json.dumps(config.to_dict())

    def test_unknown_names_list_the_choices(self):
        with pytest.raises(
            ValueError, match=r"--cases: got 'x', want one of quick, .*covidqu_64_b8"
        ):
            cases.find("x")
        for argument in ("--modes=eager,fast", "--inputs=disk", "--seconds=0"):
            with pytest.raises(SystemExit):
                peers_run.main([argument])

    def test_pictures_and_volumes_have_lungs_and_infection(self):
        image, mask = data.Pictures(1, 64)[0]
        assert (image.shape, image.dtype, mask.dtype) == ((64, 64), np.uint8, np.uint8)
        assert set(np.unique(mask)) == {0, 1, 3}
        hu, mask = data.make_volumes((8, 32, 32))[1]
        assert (hu.shape, hu.dtype) == ((24, 48, 48), np.int16)
        assert set(np.unique(mask)) == {0, 1, 3}


OURS = dict(losses=[2.0, 1.0, 0.5], grad_norm=4.0, parameters=7)


class CheckTest(parameterized.TestCase):
    def theirs(self, **changes):
        return OURS | dict(logits_difference=1e-5, logits_largest=10.0) | changes

    def test_equal_sides_are_equal(self):
        row = check.differences(OURS, self.theirs())
        np.testing.assert_allclose(row["logits"], 1e-6)
        assert row["equal"]
        assert "| 7 | 1.0e-06 | 0.0e+00 | 0.0e+00 | 7.5e-01 | yes |" in check.table(
            [{"case": "a", **row}]
        )

    @parameterized.parameters(
        dict(losses=[2.0, 1.0, 0.5001]),
        dict(grad_norm=4.001),
        dict(parameters=8),
        dict(logits_difference=1e-2),
    )
    def test_any_difference_is_seen(self, **changes):
        row = check.differences(OURS, self.theirs(**changes))
        assert not row["equal"]

    def test_a_loss_that_did_not_move_proves_nothing(self):
        still = dict(losses=[2.0, 2.0, 2.0])
        assert not check.differences(OURS | still, self.theirs(**still))["equal"]


SMALL = {
    "unet": ("covidqu", {"model.widths": (4, 8, 8), "data.image_size": 16}),
    "slim_unet": (
        "cxr_lungs",
        {"model.noise_std": 0.0, "model.border": 2, "data.image_size": 32},
    ),
    "v7_unet": (
        "v7_lungs",
        {"model.widths": (4, 8, 8), "model.dropout": 0.0, "data.image_size": 16},
    ),
    "fv_paspp_unet": (
        "covid19_ct",
        {
            "model.widths": (4, 8, 8),
            "model.strides": ((1, 2, 2), (2, 2, 2)),
            "model.paspp_rates": ((1, 1, 1), (1, 2, 2), (1, 3, 3), (1, 3, 3)),
            "data.patch_size": (4, 16, 16),
        },
    ),
}


@pytest.mark.parametrize(
    "network",
    [*list(SMALL)[:-1], pytest.param("fv_paspp_unet", marks=pytest.mark.slow)],  # 20 s to compile
)
def test_pytorch_computes_what_jaxlung_does(network, tmp_path):
    torch = pytest.importorskip("torch")
    from benchmarks.peers import jax_worker, torch_training

    config_name, changes = SMALL[network]
    case = cases.Case(config_name, changes | cases.DECAYED | {"data.batch_size": 4})
    config = cases.load_config(case, **check.OPTIONS)
    assert config.model_name == network
    path = str(tmp_path / "network.npz")
    ours = jax_worker.Training(config)
    got = jax_worker.check(ours, path, check.NUM_STEPS)
    theirs = torch_training.Training(config.to_dict(), "", [], "memory", torch.device("cpu"))
    want = torch_training.check(theirs, path, check.NUM_STEPS)
    parameters = {"parameters": ours.num_parameters}
    row = check.differences(got | parameters, want)
    assert row["equal"], row
