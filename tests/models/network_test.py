"""What every network says of itself."""

import re

import flax.errors
import jax
import jax.numpy as jnp
import pytest

from jaxlung import models
from jaxlung.config import config_file

CONFIGS = {
    "unet": "covidqu",
    "residual_unet": "covidqu_residual",
    "slim_unet": "cxr_lungs",
    "v7_unet": "v7_lungs",
    "diagnosis_cnn": "v7_diagnosis",
    "fv_paspp_unet": "covid19_ct",
}


def init(network, shape):
    return jax.eval_shape(
        lambda x: network.init(jax.random.key(0), x, train=False),
        jax.ShapeDtypeStruct((1, *shape, 1), jnp.float32),
    )


def make(name, variant=":quick"):
    config = config_file.load(config_file.resolve(f"{CONFIGS[name]}{variant}"))
    assert config.model_name == name
    size = config.data.get("patch_size") or (config.data.image_size,) * 2
    if name in ("unet", "residual_unet"):
        config.model.pad_input = False
    return models.MODELS[name](**config.model), tuple(size)


def test_these_are_all_networks():
    assert CONFIGS.keys() == models.MODELS.keys()


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_fit_every_size_that_the_multiples_allow_and_no_other(name):
    network, size = make(name)
    multiples = network.input_multiples()
    assert len(multiples) == len(size)
    variables = init(network, size)
    for axis, multiple in enumerate(multiples):
        if multiple is None:
            continue
        assert size[axis] % multiple == 0
        larger = [n + multiple * (i == axis) for i, n in enumerate(size)]
        assert jax.tree.map(jnp.shape, init(network, larger)) == jax.tree.map(jnp.shape, variables)
        if multiple > 1:
            larger[axis] -= 1
            with pytest.raises(ValueError, match=r"model: got .* want multiples of"):
                init(network, larger)


@pytest.mark.parametrize("name", CONFIGS)
def test_no_convolution_has_a_stride_and_a_dilation(name):
    # For those in bfloat16 cuDNN may have no plan (https://github.com/jax-ml/jax/issues/37922).
    network, size = make(name, variant="")
    x = jax.ShapeDtypeStruct((1, *size, 1), jnp.float32)
    program = jax.make_jaxpr(lambda x: network.init(jax.random.key(0), x, train=False))(x)
    convolutions = re.findall(r"conv_general_dilated\[(.*?)\]", str(program), re.DOTALL)
    assert convolutions
    for text in convolutions:
        strides, dilations = (
            {int(n) for n in re.search(rf"{word}=\(([\d, ]+)\)", text)[1].split(",")}
            for word in ("window_strides", "rhs_dilation")
        )
        assert strides == {1} or dilations == {1}


def test_a_diagnosis_fits_one_size_alone():
    network, size = make("diagnosis_cnn")
    variables = init(network, size)
    with pytest.raises(flax.errors.ScopeParamShapeError):
        jax.eval_shape(
            lambda variables, x: network.apply(variables, x, train=False),
            variables,
            jax.ShapeDtypeStruct((1, *(2 * n for n in size), 1), jnp.float32),
        )
