"""The lung network of Zhang."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung import models
from jaxlung.models import v7_unet
from tests.models import by_hand, networks


def make(**kwargs):
    settings = dict(widths=(4, 6), num_classes=1, in_channels=3, dropout=0.5, dtype="float32")
    return v7_unet.V7UNet(**settings | kwargs)


def pair(x, layer):
    for i in range(2):
        x = by_hand.relu(by_hand.conv(x, layer[f"conv_{i}"]))
    return x


def forward(images, params, levels=3):
    """The textbook's order: up-sample, 2 x 2 convolution on the large map, [skip, up]."""
    x = np.repeat(np.asarray(images, np.float64), 3, axis=-1)
    skips = []
    for level in range(levels - 1):
        skips.append(pair(x, params[f"encoder_{level}"]))
        x = by_hand.max_pool(skips[-1])
    x = pair(x, params["bottleneck"])
    for level in reversed(range(levels - 1)):
        x = by_hand.relu(by_hand.conv(by_hand.upsample(x), params[f"up_{level}"]))
        x = pair(np.concatenate([skips[level], x], axis=-1), params[f"decoder_{level}"])
    return by_hand.conv(by_hand.relu(by_hand.conv(x, params["before_head"])), params["head"])


class PublishedTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.model = make(widths=(64, 128, 256, 512, 1024))

    def test_parameters_are_the_published_count(self):
        variables = networks.abstract(self.model, (1, 256, 256, 1))
        assert networks.count(variables["params"]) == 31_032_837
        assert set(variables) == {"params"}

    def test_layers_have_the_original_u_nets_shapes(self):
        shapes = networks.layer_shapes(self.model, (1, 256, 256, 1))
        for level, (size, width) in enumerate([(256, 64), (128, 128), (64, 256), (32, 512)]):
            for name in ("encoder", "up", "decoder"):
                assert shapes[f"{name}_{level}"] == (1, size, size, width)
        assert shapes["bottleneck"] == (1, 16, 16, 1024)
        assert shapes["before_head"] == (1, 256, 256, 2)
        assert shapes[""] == (1, 256, 256, 1)

    def test_up_convolutions_have_the_textbooks_kernels(self):
        params = networks.abstract(self.model, (1, 256, 256, 1))["params"]
        assert params["up_3"]["kernel"].shape == (2, 2, 1024, 512)


class V7UNetTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images = networks.images(2, 16, 24, 1)
        self.variables = networks.init(make(), self.images)

    def test_is_in_the_list_of_networks(self):
        assert models.MODELS["v7_unet"] is v7_unet.V7UNet

    def test_logits_equal_kerass_worked_by_hand(self):
        model = make(widths=(4, 6, 8))
        variables = networks.init(model, self.images)
        got = networks.predict(model, variables, self.images)
        want = forward(self.images, variables["params"])
        assert np.ptp(want) > 0
        np.testing.assert_allclose(got, want, atol=1e-4 * np.ptp(want))

    def test_training_without_dropout_is_prediction(self):
        got, updated = networks.train(make(dropout=0.0), self.variables, self.images)
        want = networks.predict(make(), self.variables, self.images)
        assert "batch_stats" not in updated
        np.testing.assert_allclose(got, want, atol=0.01 * np.ptp(want))

    def test_dropout_comes_with_the_rng_and_only_in_training(self):
        first, _ = networks.train(make(), self.variables, self.images, seed=0)
        again, _ = networks.train(make(), self.variables, self.images, seed=0)
        other, _ = networks.train(make(), self.variables, self.images, seed=1)
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - other).max() > 0
        assert np.abs(first - networks.predict(make(), self.variables, self.images)).max() > 0

    def test_dropout_zeroes_half_of_the_skip_and_of_the_bottleneck(self):
        model = make(widths=(4, 6, 8))
        apply_fn = functools.partial(model.apply, train=True, capture_intermediates=True)
        rngs = {"dropout": jax.random.key(0)}
        variables = networks.init(model, self.images)
        _, caught = jax.jit(apply_fn)(variables, self.images, rngs=rngs)
        caught = caught["intermediates"]
        dropped = caught["Dropout_0"]["__call__"]
        whole = [caught[name]["__call__"][0] for name in ("encoder_1", "bottleneck")]
        for before, after in zip(whole, dropped, strict=True):
            alive = np.asarray(before) > 0
            kept = np.asarray(after)[alive] > 0
            # Hundreds of draws: within 5 of their standard deviations.
            np.testing.assert_allclose(kept.mean(), 0.5, atol=2.5 / np.sqrt(kept.size))
            np.testing.assert_allclose(after[alive][kept], 2 * before[alive][kept], rtol=1e-5)

    def test_gray_is_repeated_in_every_channel(self):
        params = copy.deepcopy(self.variables["params"])
        first = params["encoder_0"]["conv_0"]
        first["kernel"] = first["kernel"].sum(axis=2, keepdims=True)
        got = networks.predict(make(in_channels=1), {"params": params}, self.images)
        want = networks.predict(make(), self.variables, self.images)
        np.testing.assert_allclose(got, want, atol=1e-4 * np.ptp(want))

    def test_training_reaches_every_parameter(self):
        assert networks.without_gradient(make(), self.variables, self.images) == []

    def test_bfloat16_is_near_float32_and_keeps_parameters_float32(self):
        half = make(dtype="bfloat16")
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(networks.abstract(half, (1, 8, 8, 1)))}
        assert dtypes == {np.dtype("f4")}
        got = networks.predict(half, self.variables, self.images)
        want = networks.predict(make(), self.variables, self.images)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, want, atol=0.05 * np.abs(want).max())
        assert np.abs(got - want).max() > 0

    def test_another_size_is_one_sentence(self):
        message = r"20 x 30, want multiples of 4 x 4; change data.image_size \(3 levels\)\."
        with pytest.raises(ValueError, match=message):
            networks.abstract(make(widths=(4, 6, 8)), (1, 20, 30, 1))

    @parameterized.parameters(
        ("dtype", "f16", "one of float32, bfloat16"),
        ("widths", (4, 0), "two or more counts above 0"),
        ("num_classes", 0, "a count above 0"),
        ("in_channels", 0, "a count above 0"),
        ("dropout", 1.0, "0 or more and less than 1"),
    )
    def test_bad_attributes_are_named(self, field, value, want):
        with pytest.raises(ValueError, match=rf"model.{field}: got .*, want {want}"):
            make(**{field: value})
