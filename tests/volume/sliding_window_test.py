"""Inference over whole volumes against plain NumPy blending and by property."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung.data import record
from jaxlung.parallel import sharding
from jaxlung.volume import sliding_window, window_grid

WINDOW = (4, 8, 6)


def volumes(shape, seed=0):
    np_rng = np.random.default_rng(seed)
    return {
        "images": np_rng.integers(-1000, 400, shape, np.int16),
        "masks": np_rng.integers(0, 4, shape, np.uint8),
    }


@jax.jit
def uneven(batch):
    """Depends on both arrays, on the place within the window, and on what else is in it."""
    images = batch["images"].astype(jnp.float32) / 1000
    lung = (batch["masks"] & record.LUNG).astype(jnp.float32)
    place = jnp.arange(images[0].size, dtype=jnp.float32).reshape(1, *images.shape[1:]) / 100
    means = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    return jax.nn.sigmoid(images + lung - means + place)


@jax.jit
def voxelwise(batch):
    return jax.nn.sigmoid(batch["images"].astype(jnp.float32) / 500)


def predict(forward, arrays, **changes):
    settings = dict(window=WINDOW, overlap=0.5, batch_size=3) | changes
    return sliding_window.predict(forward, arrays, **settings)


def blend_by_hand(forward, arrays, window, overlap):
    """One window after the other in float64, on any grid that covers the volume."""
    shape = arrays["images"].shape
    widths = [(0, max(0, w - s)) for s, w in zip(shape, window, strict=True)]
    padded = {k: np.pad(v, widths, mode="edge") for k, v in arrays.items()}
    total, weights = np.zeros((2, *padded["images"].shape))
    grids = []
    for size, length in zip(total.shape, window, strict=True):
        step = max(1, round(length * (1 - overlap)))
        count = int(np.ceil((size - length) / step)) + 1
        grids.append(np.floor(np.linspace(0, size - length, count) + 1e-9).astype(int))
    away = [(np.arange(n) - (n - 1) / 2) * 8 / n for n in window]
    weight = 1.0
    for axis, distance in enumerate(away):
        along = np.maximum(np.exp(-(distance**2) / 2), 1e-3)
        weight = weight * np.expand_dims(along, [a for a in range(3) if a != axis])
    for corner in itertools.product(*grids):
        box = tuple(slice(c, c + n) for c, n in zip(corner, window, strict=True))
        probs = forward({k: jnp.asarray(v[box][None]) for k, v in padded.items()})[0]
        total[box] += weight * np.asarray(probs, np.float64)
        weights[box] += weight
    return (total / weights)[tuple(map(slice, shape))]


class PredictTest(parameterized.TestCase):
    @parameterized.product(
        shape=[(7, 19, 13), (4, 8, 6), (3, 30, 5), (17, 5, 23)], overlap=[0.0, 0.25, 0.5, 0.7]
    )
    def test_matches_blending_by_hand(self, shape, overlap):
        arrays = volumes(shape)
        got = predict(uneven, arrays, overlap=overlap)
        assert got.shape == shape
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, blend_by_hand(uneven, arrays, WINDOW, overlap), atol=1e-6)

    def test_is_the_network_itself_where_one_window_covers_all(self):
        arrays = volumes(WINDOW)
        want = uneven({k: jnp.asarray(v[None]) for k, v in arrays.items()})[0]
        np.testing.assert_allclose(predict(uneven, arrays, batch_size=1), want, atol=1e-6)
        np.testing.assert_allclose(predict(uneven, arrays, batch_size=5), want, atol=1e-6)

    @parameterized.parameters([(11, 67, 131)], [(3, 3, 3)], [(37, 13, 7)], [(1, 1, 1)])
    def test_what_every_window_agrees_on_stays_at_every_voxel(self, *shape):
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        constant = jax.jit(lambda batch: jnp.full(batch["images"].shape, 0.7))
        for overlap in (0.0, 0.6):
            got = predict(constant, volumes(shape), overlap=overlap, batch_size=64)
            np.testing.assert_allclose(got, np.full(shape, 0.7), atol=1e-6)
        # Of the voxel alone: an axis turned or shifted would show.
        want = 1 / (1 + np.exp(-volumes(shape)["images"] / 500))
        got = predict(voxelwise, volumes(shape), batch_size=64)
        np.testing.assert_allclose(got, want, atol=1e-6)

    @parameterized.parameters(1, 2, 7, 1000)
    def test_batch_size_does_not_matter(self, batch_size):
        arrays = volumes((9, 17, 11))
        want = predict(uneven, arrays, batch_size=4)
        got = predict(uneven, arrays, batch_size=batch_size)
        np.testing.assert_allclose(got, want, atol=1e-6)

    def test_the_network_compiles_once_for_all_shapes_and_nothing_moves_unasked(self):
        traces = []

        @jax.jit
        def forward(batch):
            traces.append(batch["images"].shape)
            return voxelwise(batch)

        with jax.transfer_guard("disallow"):
            for shape in [(7, 19, 13), (2, 67, 71), (31, 5, 9)]:
                predict(forward, volumes(shape), mirror_axes=(0, 2), batch_size=32)
        assert traces == [(32, *WINDOW)]

    def test_a_network_on_four_devices_agrees_with_one(self):
        if jax.device_count() < 4:
            self.skipTest("one device")
        shardings = sharding.make_shardings(data=4, space=1)
        scale = jax.device_put(np.float32(1), shardings.replicated)

        @jax.jit
        def split(batch, scale):
            batch = jax.lax.with_sharding_constraint(batch, shardings.batch)
            return uneven(batch) * scale

        arrays = volumes((7, 19, 13))
        with jax.transfer_guard("disallow"):
            got = predict(
                lambda batch: split(batch, scale),
                arrays,
                batch_size=8,
                mirror_axes=(1,),
                sharding=shardings.replicated,
            )
        want = predict(uneven, arrays, batch_size=8, mirror_axes=(1,))
        np.testing.assert_allclose(got, want, atol=1e-6)

    def test_volumes_of_as_many_voxels_share_all_programs_whatever_their_shape(self):
        programs = sliding_window._divide, sliding_window._cut, sliding_window._add
        predict(voxelwise, volumes((9, 40, 33)))
        before = [program._cache_size() for program in programs]
        for shape in [(16, 32, 20), (20, 21, 120), (64, 8, 9)]:  # To 512 rows of 128.
            predict(voxelwise, volumes(shape))
        assert [program._cache_size() for program in programs] == before

    @parameterized.parameters([(2, 3, 70)], [(16, 64, 64)])
    def test_a_volume_on_the_device_is_judged_again_and_again(self, shape):
        arrays = volumes(shape)
        want = predict(uneven, arrays, overlap=0.0, batch_size=16)
        ready = sliding_window.prepare(arrays, WINDOW)
        for array in arrays.values():
            array[:] = 0  # Of no matter any more.
        with jax.transfer_guard("disallow"):
            for _ in range(2):
                np.testing.assert_array_equal(
                    predict(uneven, ready, overlap=0.0, batch_size=16), want
                )
        assert ready.shape == shape

    def test_a_window_larger_than_prepared_for_is_an_error(self):
        ready = sliding_window.prepare(volumes((5, 5, 5)), WINDOW)
        arrays = volumes((5, 5, 5))
        got = predict(uneven, ready, window=(5, 7, 6))
        np.testing.assert_array_equal(got, predict(uneven, arrays, window=(5, 7, 6)))
        with pytest.raises(ValueError, match=r"got \(6, 4, 4\), want at most \(5, 8, 6\)"):
            predict(uneven, ready, window=(6, 4, 4))

    def test_arguments_stay_as_they_were(self):
        arrays = volumes((5, 9, 7))
        predict(uneven, arrays, mirror_axes=(1,))
        for name, array in volumes((5, 9, 7)).items():
            np.testing.assert_array_equal(arrays[name], array)


class WithinTest(parameterized.TestCase):
    @parameterized.product(shape=[(9, 25, 21), (3, 30, 5)], overlap=[0.0, 0.5], axes=[(), (1,)])
    def test_probabilities_stay_to_the_bit_and_are_0_elsewhere(self, shape, overlap, axes):
        within = np.zeros(shape, bool)
        within[1, :9, :3] = within[-1, -1, -1] = True
        settings = dict(overlap=overlap, mirror_axes=axes)
        everywhere = predict(uneven, volumes(shape), **settings)
        got = predict(uneven, volumes(shape), within=within, **settings)
        np.testing.assert_array_equal(got[within], everywhere[within])
        np.testing.assert_array_equal(got[~within], 0)

    @parameterized.product(shape=[(9, 25, 21), (3, 30, 5)], overlap=[0.0, 0.5], seed=[0, 1])
    def test_windows_are_those_that_hold_a_voxel_of_it(self, shape, overlap, seed):
        within = np.zeros(shape, bool)
        within.flat[np.random.default_rng(seed).integers(0, within.size, 2)] = True
        starts = window_grid.starts(shape, WINDOW, overlap)
        got = window_grid.corners(starts, WINDOW, within).tolist()
        want = []
        for d, h, w in itertools.product(*starts):
            if within[d : d + WINDOW[0], h : h + WINDOW[1], w : w + WINDOW[2]].any():
                want.append([d, h, w])
        assert len(want) < np.prod([len(s) for s in starts])
        assert got == want

    def test_others_are_not_judged(self):
        calls = []

        def forward(batch):
            calls.append(np.asarray(batch["images"]))
            return voxelwise(batch)

        shape = (8, 16, 12)
        within = np.zeros(shape, bool)
        got = predict(forward, volumes(shape), within=within)
        np.testing.assert_array_equal(got, np.zeros(shape, np.float32))
        assert not calls
        within[5, 9, 7] = True  # In the last of 2 x 2 x 2 windows.
        predict(forward, volumes(shape), within=within, overlap=0.0, batch_size=1)
        (seen,) = calls
        np.testing.assert_array_equal(seen[0], volumes(shape)["images"][4:, 8:, 6:])

    def test_another_shape_or_type_is_an_error(self):
        for bad in (np.ones((5, 5, 6), bool), np.ones((5, 5, 5), np.uint8)):
            with pytest.raises(ValueError, match=r"within: got .*, want \(5, 5, 5\) bool"):
                predict(voxelwise, volumes((5, 5, 5)), within=bad)


class MirrorTest(parameterized.TestCase):
    @parameterized.parameters([()], [(0,)], [(1, 2)], [(2, 0, 1)])
    def test_changes_nothing_for_a_network_that_does_not_mind(self, axes):
        arrays = volumes((7, 19, 13))
        got = predict(voxelwise, arrays, mirror_axes=axes)
        np.testing.assert_allclose(got, predict(voxelwise, arrays), atol=1e-6)

    def test_is_the_mean_over_all_combinations(self):
        arrays = volumes(WINDOW)
        want = np.zeros(WINDOW)
        for axes in [(), (0,), (2,), (0, 2)]:
            flipped = {k: jnp.asarray(np.flip(v, axes)[None]) for k, v in arrays.items()}
            want += np.flip(uneven(flipped)[0], axes) / 4
        got = predict(uneven, arrays, mirror_axes=(0, 2))
        np.testing.assert_allclose(got, want, atol=1e-6)
        assert np.abs(got - predict(uneven, arrays)).max() > 0.01


class GridTest(parameterized.TestCase):
    @parameterized.product(size=[1, 7, 8, 9, 31, 97], length=[1, 8], overlap=[0.0, 0.5, 0.9])
    def test_starts_cover_the_axis_end_flush_and_step_no_further_than_asked(
        self, size, length, overlap
    ):
        starts = window_grid.starts([size] * 3, [length] * 3, overlap)[1]
        assert starts[0] == 0
        assert starts[-1] == max(0, size - length)
        steps = np.diff(starts)
        assert np.all((steps > 0) & (steps <= max(1, round(length * (1 - overlap)))))

    def test_windows_are_counted(self):
        # Along D 1, along H starts 0, 32, 64, 95, along W 0, 64.
        starts = window_grid.starts((6, 159, 128), (8, 64, 64), 0.5)
        assert [s.tolist() for s in starts] == [[0], [0, 31, 63, 95], [0, 32, 64]]
        assert len(window_grid.corners(starts, (8, 64, 64), None)) == 1 * 4 * 3

    @parameterized.parameters(
        (dict(window=(4, 4)), "window: got .4, 4., want 3 counts above 0"),
        (dict(window=(0, 4, 4)), "want 3 counts above 0"),
        (dict(overlap=1.0), "overlap: got 1.0, want 0 or more and below 1"),
        (dict(batch_size=0), "batch_size: got 0"),
        (dict(mirror_axes=(0, 3)), "mirror_axes: got .0, 3., want some of 0, 1, 2"),
        (dict(mirror_axes=(1, 1)), "each once"),
    )
    def test_bad_settings_are_errors(self, changes, message):
        with pytest.raises(ValueError, match=message):
            predict(voxelwise, volumes((5, 5, 5)), **changes)

    def test_bad_arrays_are_errors(self):
        arrays = volumes((5, 5, 5))
        for bad in ({}, arrays | {"masks": np.zeros((5, 5, 6), np.uint8)}, {"x": np.zeros((4, 4))}):
            with pytest.raises(ValueError, match="want volumes of one shape"):
                predict(voxelwise, bad)
        huge = {"images": np.broadcast_to(np.int16(0), (2**10, 2**11, 2**10 + 1))}
        with pytest.raises(ValueError, match="want 2147483648 at most"):
            predict(voxelwise, huge)
        with pytest.raises(ValueError, match=r"forward: got \(3, 4\), want \(3, 4, 8, 6\)"):
            predict(lambda batch: batch["images"][:, :, 0, 0], arrays)
