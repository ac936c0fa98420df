"""The slim U-Net of Bartels et al."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung import models
from jaxlung.models import slim_unet
from tests.models import by_hand, networks

# The paper's figure 2 (the encoder as a whole, then every layer with parameters) ...
PAPER_DECODER = (
    ("conv_0", (32, 32, 32), 9248),
    ("conv_1", (64, 64, 32), 18464),
    ("conv_2", (128, 128, 32), 18464),
    ("conv_3", (256, 256, 32), 13856),
    ("conv_4", (256, 256, 32), 9248),
    ("conv_5", (512, 512, 16), 5776),
    ("head", (512, 512, 1), 145),
)
PAPER_ENCODER = 24388
# ... and the layers inside the encoder, which it doesn't list: 9 C F + F each.
ENCODER = (
    ("conv_0", (512, 512, 8), 80),
    ("conv_1", (256, 256, 16), 1168),
    ("conv_2", (128, 128, 32), 4640),
    ("conv_3", (64, 64, 32), 9248),
    ("conv_4", (32, 32, 32), 9248),
)


def make(**kwargs):
    settings = dict(num_classes=1, noise_std=0.25, leaky_slope=0.2, border=0, dtype="float32")
    return slim_unet.SlimUNet(**settings | kwargs)


def forward(images, params, stats=None):
    """Logits without a border; with the batch's statistics if there are no others."""
    encoder, decoder = params["encoder"], params["decoder"]
    stats = None if stats is None else stats["encoder"]["norm"]
    x = by_hand.norm(np.asarray(images, np.float64), encoder["norm"], stats)
    skips = []
    for i, stride in enumerate((1, 2, 2, 2, 2)):
        x = by_hand.relu(by_hand.conv(x, encoder[f"conv_{i}"], stride), 0.2)
        skips.append(x)
    skips.pop()
    for i in range(6):
        if i != 4 and i != 0:  # The second of the two at a quarter of the pixels, and the deepest.
            x = np.concatenate([by_hand.upsample(x), skips.pop()], axis=-1)
        x = by_hand.relu(by_hand.conv(x, decoder[f"conv_{i}"]), 0.2)
    return by_hand.conv(x, decoder["head"])


class LayerTableTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.model = make(border=48)
        self.variables = networks.abstract(self.model, (1, 512, 512, 1))
        self.shapes = networks.layer_shapes(self.model, (1, 512, 512, 1))

    def check_rows(self, part, rows):
        params = self.variables["params"][part]
        got = [
            (name, self.shapes[f"{part}/{name}"][1:], networks.count(params[name]))
            for name, _, _ in rows
        ]
        assert got == list(rows)

    def test_decoder_is_the_papers_table(self):
        self.check_rows("decoder", PAPER_DECODER)
        assert set(self.variables["params"]["decoder"]) == {name for name, _, _ in PAPER_DECODER}

    def test_encoder_is_the_papers_block(self):
        self.check_rows("encoder", ENCODER)
        params, stats = self.variables["params"]["encoder"], self.variables["batch_stats"]
        assert networks.count((params, stats)) == PAPER_ENCODER

    def test_parameters_are_the_published_counts(self):
        params, stats = self.variables["params"], self.variables["batch_stats"]
        assert (networks.count(params), networks.count(stats)) == (99_587, 2)
        assert set(params) == {"encoder", "decoder"}

    def test_output_is_as_large_as_the_input(self):
        assert self.shapes[""] == (1, 512, 512, 1)


class SlimUNetTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images = networks.images(2, 32, 48, 1)
        self.variables = networks.init(make(), self.images)

    def test_is_in_the_list_of_networks(self):
        assert models.MODELS["slim_unet"] is slim_unet.SlimUNet

    def test_logits_equal_kerass_worked_by_hand(self):
        got = networks.predict(make(), self.variables, self.images)
        want = forward(self.images, self.variables["params"], self.variables["batch_stats"])
        np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())

    def test_training_without_noise_uses_the_batchs_statistics(self):
        got, updated = networks.train(make(noise_std=0.0), self.variables, self.images)
        want = forward(self.images, self.variables["params"])
        np.testing.assert_allclose(got, want, atol=0.02 * np.abs(want).max())
        before = self.variables["batch_stats"]["encoder"]["norm"]["mean"]
        after = updated["batch_stats"]["encoder"]["norm"]["mean"]
        np.testing.assert_allclose(after, 0.9 * before + 0.1 * self.images.mean(), rtol=1e-5)

    def test_noise_comes_with_the_rng_and_only_in_training(self):
        first, _ = networks.train(make(), self.variables, self.images, seed=0)
        again, _ = networks.train(make(), self.variables, self.images, seed=0)
        other, _ = networks.train(make(), self.variables, self.images, seed=1)
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - other).max() > 1e-3
        quiet = networks.predict(make(noise_std=0.0), self.variables, self.images)
        np.testing.assert_array_equal(networks.predict(make(), self.variables, self.images), quiet)

    def test_noise_has_the_given_standard_deviation(self):
        """The running variance takes in a tenth of what training's images have."""
        flat = jnp.zeros((8, 64, 64, 1))
        _, updated = networks.train(make(noise_std=0.5), self.variables, flat)
        before = self.variables["batch_stats"]["encoder"]["norm"]["var"]
        after = updated["batch_stats"]["encoder"]["norm"]["var"]
        # 32,768 draws: their variance is known to 0.8 %.
        np.testing.assert_allclose((after - 0.9 * before) / 0.1, 0.25, rtol=0.04)

    def test_border_has_kerass_smallest_probability_and_the_inside_is_untouched(self):
        got = networks.predict(make(border=3), self.variables, self.images)
        whole = networks.predict(make(), self.variables, self.images)
        np.testing.assert_allclose(got[:, 3:-3, 3:-3], whole[:, 3:-3, 3:-3], rtol=1e-6)
        inside = np.zeros((32, 48), bool)
        inside[3:-3, 3:-3] = True
        outside = np.asarray(jax.nn.sigmoid(got))[:, ~inside]
        np.testing.assert_allclose(outside, 1e-7, rtol=1e-4)

    def test_slope_of_leaky_relu_matters(self):
        other = networks.predict(make(leaky_slope=0.0), self.variables, self.images)
        assert np.abs(other - networks.predict(make(), self.variables, self.images)).max() > 1e-3

    def test_training_reaches_every_parameter(self):
        model = make(border=4)
        assert networks.without_gradient(model, self.variables, self.images) == []

    def test_bfloat16_is_near_float32_and_keeps_variables_float32(self):
        half = make(dtype="bfloat16")
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(networks.abstract(half, (1, 32, 32, 1)))}
        assert dtypes == {np.dtype("f4")}
        got = networks.predict(half, self.variables, self.images)
        want = networks.predict(make(), self.variables, self.images)
        assert got.dtype == jnp.float32
        # Twelve convolutions in steps of 1 / 256.
        np.testing.assert_allclose(got, want, atol=0.05 * np.abs(want).max())
        assert np.abs(got - want).max() > 0

    @parameterized.parameters(
        ((40, 32), 0, "40 x 32, want multiples of 16 x 16; change data.image_size"),
        ((32, 96), 16, "got 16 pixels at each edge of images of 32 x 96"),
    )
    def test_a_size_that_does_not_fit_is_one_sentence(self, size, border, message):
        with pytest.raises(ValueError, match=message):
            networks.abstract(make(border=border), (1, *size, 1))

    @parameterized.parameters(
        ("dtype", "f16", "one of float32, bfloat16"),
        ("num_classes", 0, "a count above 0"),
        ("noise_std", -0.1, "0 or more"),
        ("leaky_slope", 1.5, "0 or more and less than 1"),
        ("border", -1, "0 or more pixels"),
    )
    def test_bad_attributes_are_named(self, field, value, want):
        with pytest.raises(ValueError, match=f"model.{field}: got {value!r}, want {want}"):
            make(**{field: value})
