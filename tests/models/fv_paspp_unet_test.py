"""The network of Lin and Huang."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung import models
from jaxlung.models import fv_paspp_unet
from tests.models import by_hand_3d, networks

STRIDES = ((1, 2, 2), (2, 2, 2))
RATES = ((1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8))
SIX = (  # Table 3's four rows, the first of Table 2 among them; Table 2's second; all with CE.
    dict(attention="none", paspp=False, deep_supervision=False),
    dict(attention="se", paspp=False, deep_supervision=False),
    dict(attention="se", paspp=True, deep_supervision=False),
    dict(attention="se", paspp=True, deep_supervision=True),
    dict(attention="ce", paspp=False, deep_supervision=False),
    dict(attention="ce", paspp=True, deep_supervision=True),
)


def make(widths=(4, 6, 8), strides=STRIDES, **kwargs):
    settings = dict(attention="se", paspp=True, paspp_rates=RATES, deep_supervision=True)
    settings |= dict(reduction=2, num_classes=1, dtype="float32") | kwargs
    return fv_paspp_unet.FvPasppUNet(widths=widths, strides=strides, **settings)


def forward(images, params, stats):
    """Three levels with everything: the final logits, and the intermediate level's."""

    def part(block, x, name, **kwargs):
        return block(x, params[name], stats and stats[name], **kwargs)

    residual, fv = by_hand_3d.residual, by_hand_3d.feature_variation
    top = part(fv, part(residual, by_hand_3d.array(images), "encoder_0"), "fv_0")
    middle = part(residual, top, "encoder_1", strides=STRIDES[0])
    middle = part(fv, middle, "fv_1")
    x = part(fv, part(residual, middle, "bottleneck", strides=STRIDES[1]), "fv_2")
    x = part(by_hand_3d.pyramid, x, "paspp", rates=RATES)
    x = np.concatenate([middle, by_hand_3d.up_conv(x, params["up_1"])], axis=-1)
    x = part(residual, x, "decoder_1")
    # As the paper: up-sampled, then convolved.
    other = by_hand_3d.dense(by_hand_3d.upsample(x, STRIDES[0]), params["head_1"])
    x = np.concatenate([top, by_hand_3d.up_conv(x, params["up_0"])], axis=-1)
    return by_hand_3d.dense(part(residual, x, "decoder_0"), params["head"]), other


def count_by_hand(widths, strides, attention, paspp, deep_supervision):
    """Weights, biases and BatchNorms' scales and shifts, from the paper's blocks."""

    def convolution(size, before, after):
        return size**3 * before * after + 2 * after  # and BatchNorm

    def residual(before, after, moved):
        shortcut = convolution(1, before, after) if moved or before != after else 0
        return convolution(3, before, after) + convolution(3, after, after) + shortcut

    def variation(c):
        gates = {"se": c, "ce": 1}[attention]
        gate = (c + 1) * (c // 2) + (c // 2 + 1) * gates
        place = 27 * c * c + c + 27 * c + 1
        return convolution(1, c, c) + gate + place + convolution(3, 3 * c, c)

    def pyramid(c):
        views = 4 * (convolution(1, c, c // 4) + convolution(3, c // 4, c // 4))
        return views + 2 * convolution(1, c // 2, c // 2) + convolution(1, c, c)

    total = sum(
        residual(before, after, before != 1)
        for before, after in zip((1, *widths[:-1]), widths, strict=True)
    )
    if attention != "none":
        total += sum(variation(c) for c in (*widths[:2], widths[-1]))
    total += pyramid(widths[-1]) if paspp else 0
    for wide, width, triple in zip(widths[1:], widths[:-1], strides, strict=True):
        total += np.prod(triple) * wide * width + width + residual(2 * width, width, False)
    heads = widths[:-1] if deep_supervision else widths[:1]
    return total + sum(width + 1 for width in heads)


class FvPasppUNetTest(parameterized.TestCase):
    def test_is_in_the_list_of_networks(self):
        assert models.MODELS["fv_paspp_unet"] is fv_paspp_unet.FvPasppUNet

    def test_logits_gradients_and_statistics_equal_those_worked_by_hand(self):
        """One compilation: as it predicts and as it trains, and every parameter's gradient."""
        model, x = make(), networks.images(2, 4, 8, 8, 1)
        variables = networks.init(model, x)
        stats = variables["batch_stats"]

        @jax.jit
        def calls(params):
            def train(params):
                both = {"params": params, "batch_stats": stats}
                outs, updated = model.apply(both, x, train=True, mutable=["batch_stats"])
                return sum(jnp.sum(out**3) for out in outs), (outs, updated["batch_stats"])

            grads, (outs, moved) = jax.grad(train, has_aux=True)(params)
            one = model.apply({"params": params, "batch_stats": stats}, x, train=False)
            return one, outs, moved, grads

        with jax.default_matmul_precision("highest"):
            one, outs, moved, grads = calls(variables["params"])
        pairs = [(one, forward(x, variables["params"], stats)[0])]
        pairs += zip(outs, forward(x, variables["params"], None), strict=True)
        for got, want in pairs:
            assert got.dtype == jnp.float32
            np.testing.assert_allclose(got, want, atol=1e-3 * np.abs(want).max())
        assert not any(jax.tree.leaves(jax.tree.map(np.array_equal, stats, moved)))
        assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(grads))

    def test_uncompiled_is_equal_and_bfloat16_near_and_volumes_are_apart(self):
        settings = dict(widths=(4, 4), strides=((1, 2, 2),), paspp=False, deep_supervision=False)
        model, x = make(**settings), networks.images(2, 2, 8, 8, 1)
        variables = networks.init(model, x)
        want = networks.predict(model, variables, x)
        with jax.default_matmul_precision("highest"):
            eager = model.apply(variables, x, train=False)
        np.testing.assert_allclose(eager, want, atol=1e-5 * np.abs(want).max())
        # Volumes of a batch don't see each other.
        swapped = networks.predict(model, variables, x[::-1])[::-1]
        np.testing.assert_allclose(swapped, want, atol=1e-5 * np.abs(want).max())
        half = make(**settings, dtype="bfloat16")
        got = networks.predict(half, variables, x)
        assert got.dtype == jnp.float32
        # bfloat16 has 8 bits of mantissa; fifteen convolutions add up to some of its steps.
        np.testing.assert_allclose(got, want, atol=0.08 * np.abs(want).max())
        assert np.any(got != want)
        shapes = networks.abstract(half, x.shape)
        assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {np.dtype("f4")}

    @parameterized.parameters(*SIX)
    def test_parameters_are_those_counted_by_hand(self, **switches):
        for widths in ((32, 64, 128, 256), (8, 16, 16, 32)):
            strides = (*STRIDES, (2, 2, 2))
            model = make(widths, strides, **switches)
            params = networks.abstract(model, (1, 8, 128, 128, 1))["params"]
            assert networks.count(params) == count_by_hand(widths, strides, **switches)

    def test_a_patch_of_the_paper_has_logits_of_three_levels_at_its_size(self):
        model = make((32, 64, 128, 256), (*STRIDES, (2, 2, 2)), dtype="bfloat16")
        x = jax.ShapeDtypeStruct((5, 8, 128, 128, 1), jnp.float32)
        outs, variables = jax.eval_shape(
            functools.partial(model.init_with_output, train=True), jax.random.key(0), x
        )
        assert [out.shape for out in outs] == 3 * [x.shape]
        assert {out.dtype for out in outs} == {np.dtype("f4")}
        assert networks.layer_shapes(model, x.shape)["bottleneck"] == (5, 2, 16, 16, 256)
        # The same parameters, however they are first asked for; and one map outside training.
        once = networks.abstract(model, x.shape)
        assert jax.tree.map(jnp.shape, once) == jax.tree.map(jnp.shape, variables)
        apply_fn = functools.partial(model.apply, train=False)
        assert jax.eval_shape(apply_fn, variables, x).shape == x.shape

    def test_lists_as_of_a_saved_config_make_the_same_network(self):
        as_lists = make([4, 6, 8], [list(s) for s in STRIDES], paspp_rates=[list(r) for r in RATES])
        shape = (1, 4, 8, 8, 1)
        got, want = (
            jax.eval_shape(functools.partial(m.init, train=False), jax.random.key(0), x)
            for m, x in ((m, jax.ShapeDtypeStruct(shape, jnp.float32)) for m in (as_lists, make()))
        )
        assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, want)

    def test_another_size_is_an_error_that_says_what_would_do(self):
        with pytest.raises(ValueError, match=r"3 x 8 x 8, want multiples of 2 x 4 x 4; .*strides"):
            networks.abstract(make(), (1, 3, 8, 8, 1))

    @parameterized.parameters(
        (dict(widths=(4,), strides=()), r"widths: got \(4,\), want two or more"),
        (dict(strides=((1, 2, 2),)), "strides: got .* want 2 triples"),
        (dict(strides=((1, 2, 2), (2, 3, 2))), "strides: .* of 1 or 2"),
        (dict(strides=((1, 2, 2), (2, 2))), "strides: .* triples"),
        (dict(reduction=0), "reduction: got 0, want a count above 0"),
        (dict(reduction=4), r"widths: got \(4, 6, 8\), want multiples of the reduction, 4"),
        (dict(attention="cbam"), "attention: got 'cbam', want one of none, se, ce"),
        (dict(paspp_rates=RATES[:3]), "paspp_rates: .* 4 triples"),
        (dict(paspp_rates=((0, 1, 1), *RATES[1:])), "paspp_rates: .* above 0"),
        (dict(widths=(4, 8, 10)), "widths: .* multiple of 4, for PASPP"),
        (dict(widths=(5, 8, 12)), "widths: .* multiples of the reduction, 2"),
        (dict(widths=(4, 8), strides=((1, 2, 2),)), "deep_supervision: got True"),
        (dict(num_classes=0), "num_classes: got 0"),
        (dict(dtype="float16"), "dtype: got 'float16'"),
    )
    def test_attributes_that_are_no_network_are_errors(self, settings, message):
        with pytest.raises(ValueError, match=f"model.{message}"):
            make(**settings)

    def test_no_convolution_has_both_stride_and_dilation(self):
        """Nor does a gradient's: cuDNN may have no plan for them in bfloat16 (JAX issue 37922)."""
        model = make(dtype="bfloat16")
        x = jax.ShapeDtypeStruct((2, 4, 8, 8, 1), jnp.float32)
        variables = networks.abstract(model, x.shape)

        def loss(params, stats, x):
            both = {"params": params, "batch_stats": stats}
            outs, _ = model.apply(both, x, train=True, mutable=["batch_stats"])
            return sum(jnp.sum(out) for out in outs)

        args = variables["params"], variables["batch_stats"], x
        settings = list(convolutions(jax.make_jaxpr(jax.grad(loss))(*args).jaxpr))
        assert any(max(one["rhs_dilation"]) > 1 for one in settings)
        assert any(max(one["window_strides"]) > 1 for one in settings)
        assert not any(
            max(one["window_strides"]) > 1 and max(one["rhs_dilation"]) > 1 for one in settings
        )


def convolutions(jaxpr):
    """The settings of all convolutions in a program, also those of other platforms."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            yield equation.params
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(value):
                yield from convolutions(getattr(value, "jaxpr", value))


def is_jaxpr(value):
    return hasattr(value, "eqns")
