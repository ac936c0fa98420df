"""The model of step time against hand-worked cases and the configs that it speaks of."""

import contextlib
import io
import pathlib

import pytest
from absl.testing import parameterized

from benchmarks import scaling_model
from jaxlung.config import config_file

# 100 MB of gradients, ten small reductions; 1 TFLOP/s, 100 GB/s, 100 microseconds.
NETWORK = scaling_model.Network(25_000_000, 1e9, 10, 10)
MACHINE = scaling_model.Machine(1e12, 100e9, 100e-6, (1, 2))


class ScalingModelTest(parameterized.TestCase):
    def test_compute_is_work_by_the_attained_rate(self):
        # 10 x 1 GFLOP at half of 1 TFLOP/s.
        assert scaling_model.compute_seconds(NETWORK, MACHINE, 10, 0.5) == pytest.approx(20e-3)

    @parameterized.parameters((1, 0.0), (2, 4e-3), (4, 6e-3), (8, 7e-3))
    def test_a_ring_sends_twice_all_but_a_devices_own_part(self, num_devices, want):
        assert scaling_model.ring_seconds(400e6, num_devices, 100e9) == pytest.approx(want)

    @parameterized.parameters(
        (1, 0.0, 20e-3),
        (2, 0.0, 23e-3),  # 2 ms of gradients at 50 GB/s, 1 ms of small reductions.
        (2, 0.05, 22e-3),  # 1 ms of it hides under the arithmetic,
        (2, 0.5, 21e-3),  # all of it; the small ones never.
        (4, 0.0, 24e-3),
    )
    def test_a_step_is_the_sum_of_its_parts(self, num_devices, overlap, want):
        got = scaling_model.step_seconds(
            NETWORK, MACHINE, num_devices, 20e-3, overlap=overlap, share_of_link=0.5
        )
        assert got == pytest.approx(want)

    def test_a_cell_has_time_efficiency_and_speed_up(self):
        flags, _ = scaling_model.parse([])
        # The same batch on each: 23 ms in place of 20. Half of it on each: 13 ms.
        assert scaling_model.cell(NETWORK, MACHINE, 2, 20e-3, flags) == "23.00 ms, 87 %, 1.5 x"
        # Ten can't be split in four.
        assert scaling_model.cell(NETWORK, MACHINE, 4, 20e-3, flags) == "24.00 ms, 83 %"

    def test_a_measured_step_takes_the_place_of_the_assumption(self):
        flags, measured = scaling_model.parse(["--machine=h200", "--compute_ms=covidqu=12.5"])
        lines = scaling_model.table("h200", flags, measured).splitlines()
        assert lines[2].startswith("| covidqu, batch 16 | 12.50 ms, 100 % | ")
        assert len({line.count("|") for line in lines}) == 1

    @parameterized.parameters(
        (["--share_of_peak=0"], "--share_of_peak: got 0.0"),
        (["--overlap=1.5"], "--overlap: got 1.5"),
        (["--compute_ms=covidqu=1"], "--compute_ms: want --machine too"),
        (["--machine=v5e", "--compute_ms=covid=1"], "--compute_ms: got 'covid=1'"),
        (["--machine=v5e", "--compute_ms=covidqu=0"], "--compute_ms: got 'covidqu=0'"),
    )
    def test_a_bad_flag_is_named(self, argv, message):
        said = self.enterContext(contextlib.redirect_stderr(io.StringIO()))
        with pytest.raises(SystemExit, match="2"):
            scaling_model.parse(argv)
        assert message in said.getvalue()

    @parameterized.parameters(*scaling_model.NETWORKS)
    def test_batches_are_those_of_the_configs(self, name):
        config = config_file.load(config_file.resolve(name))
        assert config.data.batch_size == scaling_model.NETWORKS[name].batch

    @parameterized.parameters(*scaling_model.MACHINES)
    def test_the_page_has_the_tables_that_the_script_prints(self, name):
        page = pathlib.Path(__file__).parents[2] / "docs" / "scaling.md"
        flags, measured = scaling_model.parse([])
        assert scaling_model.table(name, flags, measured) in page.read_text()
