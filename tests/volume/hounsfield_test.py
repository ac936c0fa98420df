"""HU and windowed values told apart, brought to one scale, doubted and windowed."""

import re

import jax
import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung.volume import hounsfield


def thorax(dtype=np.int16):
    """Air, lung, fat, muscle and bone in HU, in proportions of a chest CT."""
    hu = [-1000] * 300 + [-820] * 250 + [-90] * 100 + [50] * 250 + [700] * 50
    return np.array(hu, dtype).reshape(19, 50)


class ToHuTest(parameterized.TestCase):
    @parameterized.parameters(np.int16, np.int32, np.float32, np.float64)
    def test_hu_are_kept_and_clipped_to_twelve_bits(self, dtype):
        values = np.array([-3024, -1025, -1024, -1000, 0, 3071, 3072, 32000], dtype)
        before = values.copy()
        got, kind = hounsfield.to_hu(values, "a.nii")
        assert kind == "hu"
        assert got.dtype == np.int16
        assert got.tolist() == [-1024, -1024, -1024, -1000, 0, 3071, 3071, 3071]
        np.testing.assert_array_equal(values, before)

    def test_halves_are_rounded(self):
        got, _ = hounsfield.to_hu(np.array([-999.6, -0.4, 0.6], np.float32), "a.nii")
        assert got.tolist() == [-1000, 0, 1]

    @parameterized.parameters(np.uint16, np.uint32)
    def test_unsigned_values_over_255_are_hu(self, dtype):
        got, kind = hounsfield.to_hu(np.array([0, 256, 4095], dtype), "a.nii")
        assert (got.tolist(), kind) == ([0, 256, 3071], "hu")

    @parameterized.parameters(np.uint8, np.int16, np.float32)
    def test_windowed_values_are_brought_back(self, dtype):
        # By hand: 255 levels are 1500 HU, from -1250; -1250 and -1191 are below -1024.
        values = np.array([0, 10, 51, 100, 204, 255], dtype)
        got, kind = hounsfield.to_hu(values, "a.nii")
        assert kind == "windowed"
        assert got.tolist() == [-1024, -1024, -950, -662, -50, 250]

    def test_windowing_is_undone_within_half_a_level(self):
        hu = np.arange(-1020, 250, 7)
        windowed = np.rint((hu + 1250) / 1500 * 255).astype(np.uint8)
        windowed[0], windowed[-1] = 0, 255
        got, _ = hounsfield.to_hu(windowed, "a.nii")
        assert np.abs(got - hu)[1:-1].max() <= 1500 / 255 / 2 + 0.5

    @parameterized.parameters(([np.nan, 1],), ([-np.inf, 1],), ([],))
    def test_values_that_are_none_are_refused(self, values):
        with pytest.raises(ValueError, match=r"a\.nii: want finite"):
            hounsfield.to_hu(np.array(values, np.float32), "a.nii")


class DoubtTest(parameterized.TestCase):
    @parameterized.parameters(np.int16, np.float32)
    def test_a_chest_is_not_doubted(self, dtype):
        assert hounsfield.doubt(thorax(dtype)) is None

    def test_padding_and_metal_are_not_doubted(self):
        values = thorax()
        values[0, 0], values[0, 1] = -3024, 9000
        assert hounsfield.doubt(values) is None

    @parameterized.parameters((-1250, 250), (-1024, 600), (-160, 240))
    def test_a_window_is_told_unless_the_dataset_is_known_for_it(self, low, high):
        windowed = np.clip((thorax() - low) / (high - low) * 255, 0, 255).astype(np.uint8)
        said = hounsfield.doubt(windowed)
        assert f"from {windowed.min()} to {windowed.max()}: not HU. The window of -1250" in said
        assert hounsfield.doubt(windowed, window="known") is None
        assert "nothing below 0 HU" in hounsfield.doubt(windowed, window="none")

    @parameterized.named_parameters(
        ("without_intercept", thorax() + 1024, "from 24 to 1724: .*intercept"),
        ("unsigned", (thorax() + 1024).astype(np.uint16), "intercept"),
        (
            "without_intercept_but_padded",
            np.append(thorax() + 1024, -2000),
            "hardly any voxel of air",
        ),
        ("huge", thorax().astype(np.int32) * 100, "from -100000 to 70000: .*10000"),
        ("abdomen_without_air", np.array([-90, 50, 60, 700]), "hardly any voxel of air"),
    )
    def test_what_is_not_hu_is_told_with_its_range(self, values, match):
        assert re.search(match, hounsfield.doubt(values))


class RequireTest(parameterized.TestCase):
    @parameterized.named_parameters(
        ("hu", thorax()),
        ("few_kinds_of_tissue", np.array([-1000, 50] * 50)),
        ("without_intercept", np.arange(4096)),
        ("windowed", np.arange(38, 256).astype(np.uint8)),
        ("soft_tissue", np.linspace(-90, 60, 99)),
    )
    def test_what_may_be_a_ct_passes(self, values):
        hounsfield.require_ct(values, "a.nii")

    @parameterized.named_parameters(
        ("labels", np.arange(4).repeat(9).astype(np.uint8), "from 0 to 3: are they labels"),
        ("constant", np.full(9, -1000), "from -1000 to -1000"),
        ("scaled_to_one", np.linspace(0, 1, 5000), "from 0 to 1: .*scaled"),
        ("z_scores", np.random.default_rng(0).normal(size=5000), r"from -\d\.\d+ to \d"),
        ("a_mask", np.uint8([0, 255] * 900), "from 0 to 255 and at most 16 different"),
        ("sparse_labels", np.int16([0, 10, 20, 117] * 99_999), "from 0 to 117 and at most 16"),
        ("labels_from_minus_one", np.int16([-1, 0, 40] * 99), "at most 16 different"),
    )
    def test_what_can_be_none_is_refused_with_its_range(self, values, match):
        with pytest.raises(ValueError, match=rf"a\.nii: want a CT in Hounsfield.*{match}"):
            hounsfield.require_ct(values, "a.nii")

    def test_every_voxel_counts_before_a_volume_is_refused(self):
        values = np.zeros(300_000, np.int16)
        values[1::3] = np.random.default_rng(0).integers(0, 200, 100_000)
        hounsfield.require_ct(values, "a.nii")


class ScaleTest(parameterized.TestCase):
    @parameterized.product(
        dtype=[np.int16, np.float32], window=[(-1250, 250), (-1000.0, 400.0)], jit=[False, True]
    )
    def test_is_a_clipped_line(self, dtype, window, jit):
        hu = np.array([[-1024, -1000, -500], [0, 249, 3071]], dtype)
        function = jax.jit(hounsfield.scale, static_argnums=1) if jit else hounsfield.scale
        got = function(hu, window)
        assert isinstance(got, jax.Array if jit else np.ndarray)
        assert got.dtype == np.float32
        want = np.interp(hu, window, (0, 1))
        np.testing.assert_allclose(got, want, atol=1e-6)

    @parameterized.parameters(((250, -1250),), ((0, 0),))
    def test_an_empty_window_is_refused(self, window):
        with pytest.raises(ValueError, match="low < high"):
            hounsfield.scale(thorax(), window)
