"""The diagnosis network of Zhang."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung import models
from jaxlung.models import diagnosis_cnn
from tests.models import by_hand, networks


def make(**kwargs):
    settings = dict(filters=(4, 6), dense=8, in_channels=3, dtype="float32")
    return diagnosis_cnn.DiagnosisCNN(**settings | kwargs)


def forward(images, params):
    x = np.repeat(np.asarray(images, np.float64), 3, axis=-1)
    for i in range(2):
        x = by_hand.relu(by_hand.conv(x, params[f"conv_{i}"], padding="valid"))
        x = by_hand.max_pool(x)
    x = by_hand.relu(by_hand.dense(x.reshape(len(x), -1), params["dense"]))
    return by_hand.dense(x, params["head"]).reshape(-1, 1, 1, 1)


class DiagnosisCNNTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images = networks.images(5, 21, 18, 1)
        self.variables = networks.init(make(), self.images)

    def test_is_in_the_list_of_networks(self):
        assert models.MODELS["diagnosis_cnn"] is diagnosis_cnn.DiagnosisCNN

    def test_layers_and_parameters_are_those_counted_by_hand(self):
        model, shape = make(filters=(32, 64), dense=64), (1, 246, 236, 1)
        params = networks.abstract(model, shape)["params"]
        assert networks.count(params) == 14_027_841
        rows = [("conv_0", (244, 234, 32), 896), ("conv_1", (120, 115, 64), 18_496)]
        rows += [("dense", (64,), 60 * 57 * 64 * 64 + 64), ("head", (1,), 65)]
        shapes = networks.layer_shapes(model, shape)
        got = [(name, shapes[name][1:], networks.count(params[name])) for name, _, _ in rows]
        assert got == rows

    @parameterized.parameters((21, 18), (10, 10), (16, 23))
    def test_logits_equal_kerass_worked_by_hand(self, height, width):
        """Odd sizes after the convolutions, and the smallest image that there can be."""
        images = networks.images(3, height, width, 1)
        variables = networks.init(make(), images)
        got = networks.predict(make(), variables, images)
        want = forward(images, variables["params"])
        assert got.shape == (3, 1, 1, 1)
        np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())

    def test_training_and_prediction_are_one(self):
        got, updated = networks.train(make(), self.variables, self.images)
        want = networks.predict(make(), self.variables, self.images)
        assert "batch_stats" not in updated
        np.testing.assert_allclose(got, want, atol=0.02 * np.abs(want).max())

    def test_training_reaches_every_parameter(self):
        assert networks.without_gradient(make(), self.variables, self.images) == []

    def test_bfloat16_is_near_float32_and_keeps_parameters_float32(self):
        half = make(dtype="bfloat16")
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(networks.abstract(half, (1, 12, 12, 1)))}
        assert dtypes == {np.dtype("f4")}
        got = networks.predict(half, self.variables, self.images)
        want = networks.predict(make(), self.variables, self.images)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, want, atol=0.05 * np.abs(want).max())
        assert np.abs(got - want).max() > 0

    @parameterized.parameters((9, 32, 2), (30, 21, 3))
    def test_an_image_without_room_is_one_sentence(self, height, width, count):
        least = {2: 10, 3: 22}[count]
        message = f"{height} x {width}, want at least {least} x {least} .{count} convolutions"
        model = make(filters=(4,) * count)
        with pytest.raises(ValueError, match=message):
            networks.abstract(model, (1, height, width, 1))
        assert (
            networks.abstract(model, (1, least, least, 1))["params"]["dense"]["kernel"].size == 32
        )

    @parameterized.parameters(
        ("dtype", "f16", "one of float32, bfloat16"),
        ("filters", (), "one or more counts above 0"),
        ("filters", (4, 1.5), "one or more counts above 0"),
        ("dense", 0, "a count above 0"),
        ("in_channels", 0, "a count above 0"),
    )
    def test_bad_attributes_are_named(self, field, value, want):
        with pytest.raises(ValueError, match=rf"model.{field}: got .*, want {want}"):
            make(**{field: value})
