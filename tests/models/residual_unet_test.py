"""The residual U-Net of Nguyen Xuan Tung."""

import jax
import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung import models
from jaxlung.models import residual_unet, unet
from tests.models import by_hand, networks


def make(widths=(4, 8), **kwargs):
    settings = dict(num_classes=1, head_norm=False, pad_input=False, dtype="float32") | kwargs
    return residual_unet.ResidualUNet(widths=widths, **settings)


def block(x, params, stats):
    """relu(norm(conv(relu(norm(conv x)))) + shortcut x)."""

    def conv_norm(x, name):
        y = by_hand.conv(x, params[f"conv_{name}"])
        return by_hand.norm(y, params[f"norm_{name}"], stats[f"norm_{name}"])

    y = conv_norm(by_hand.relu(conv_norm(x, "0")), "1")
    return by_hand.relu(y + (conv_norm(x, "shortcut") if "conv_shortcut" in params else x))


def plain(x, params, stats):
    for i in "01":
        x = by_hand.conv(x, params[f"conv_{i}"])
        x = by_hand.relu(by_hand.norm(x, params[f"norm_{i}"], stats[f"norm_{i}"]))
    return x


def forward(images, params, stats):
    """Two levels: residual, residual, plain."""
    skip = block(np.asarray(images, np.float64), params["encoder_0"], stats["encoder_0"])
    x = block(by_hand.max_pool(skip), params["bottleneck"], stats["bottleneck"])
    up = np.zeros((*skip.shape[:3], params["up_0"]["bias"].size))
    for a in range(2):
        for b in range(2):
            up[:, a::2, b::2] = x @ np.asarray(params["up_0"]["kernel"][a, b], np.float64)
    up += np.asarray(params["up_0"]["bias"], np.float64)
    x = np.concatenate([skip, up], axis=-1)
    return by_hand.conv(plain(x, params["decoder_0"], stats["decoder_0"]), params["head"])


class ResidualUNetTest(parameterized.TestCase):
    def test_is_in_the_list_of_networks(self):
        assert models.MODELS["residual_unet"] is residual_unet.ResidualUNet

    @parameterized.parameters(((4, 8),), ((4, 4),))
    def test_logits_equal_those_worked_by_hand(self, widths):
        images = networks.images(2, 12, 8, 1)
        variables = networks.init(make(widths), images)
        got = networks.predict(make(widths), variables, images)
        want = forward(images, variables["params"], variables["batch_stats"])
        np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())

    @parameterized.parameters(((4, 8, 16),), ((64, 128, 256, 512, 1024),))
    def test_has_the_u_nets_parameters_and_the_shortcuts(self, widths):
        params = networks.abstract(make(widths), (1, 32, 32, 1))["params"]
        settings = dict(num_classes=1, head_norm=False, pad_input=False, dtype="float32")
        without = networks.abstract(unet.UNet(widths=widths, **settings), (1, 32, 32, 1))["params"]
        before = (1, *widths[:-1])
        shortcuts = sum(a * b + 2 * b for a, b in zip(before, widths, strict=True))
        assert networks.count(params) == networks.count(without) + shortcuts
        assert set(params) == set(without)
        for level in range(len(widths) - 1):
            assert set(params[f"decoder_{level}"]) == {"conv_0", "conv_1", "norm_0", "norm_1"}

    def test_equal_channels_need_no_projection(self):
        params = networks.abstract(make((4, 4)), (1, 8, 8, 1))["params"]
        assert "conv_shortcut" in params["encoder_0"]
        assert "conv_shortcut" not in params["bottleneck"]

    def test_training_reaches_every_parameter_and_every_statistic(self):
        images = networks.images(2, 16, 16, 1)
        variables = networks.init(make(), images)
        assert networks.without_gradient(make(), variables, images) == []
        _, updated = networks.train(make(), variables, images)
        same = jax.tree.map(np.array_equal, variables["batch_stats"], updated["batch_stats"])
        assert not any(jax.tree.leaves(same))

    def test_bfloat16_keeps_parameters_statistics_and_logits_float32(self):
        half = make(dtype="bfloat16")
        logits, variables = networks.abstract(half, (1, 8, 8, 1), "init_with_output")
        assert {leaf.dtype for leaf in jax.tree.leaves((logits, variables))} == {np.dtype("f4")}
        shapes = networks.layer_shapes(half, (1, 8, 8, 1))
        assert shapes["encoder_0"] == (1, 8, 8, 4)

    def test_sizes_and_attributes_are_checked_as_the_u_nets(self):
        with pytest.raises(ValueError, match=r"30 x 32, want multiples of 4 x 4; .*pad_input"):
            networks.abstract(make((4, 8, 16)), (1, 30, 32, 1))
        with pytest.raises(ValueError, match=r"model.widths: got \(4,\), want two or more"):
            make((4,))
