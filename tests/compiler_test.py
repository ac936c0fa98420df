"""What a training step is compiled with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung import compiler


def weight_gradient(x, dy):
    def forward(kernel):
        axes = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=axes)

    kernel = jnp.zeros((3, 3, x.shape[-1], dy.shape[-1]))
    return jax.vjp(forward, kernel)[1](dy)[0]


def test_cpus_leave_convolutions_to_eigen_and_get_the_same_numbers():
    x, dy = np.random.default_rng(0).normal(size=(2, 2, 6, 5, 4)).astype(np.float32)
    options = compiler.train_step_options()
    compiled = jax.jit(weight_gradient, compiler_options=options).lower(x, dy).compile()
    assert "ynn" not in compiled.as_text()
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    want = [
        [np.einsum("bhwc,bhwf->cf", padded[:, a : a + 6, b : b + 5], dy) for b in range(3)]
        for a in range(3)
    ]
    np.testing.assert_allclose(compiled(x, dy), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_accelerators_get_what_xla_chooses(monkeypatch, platform):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    assert compiler.train_step_options() is None
