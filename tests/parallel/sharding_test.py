"""Devices: what JAX says of those that are not here."""

import jax
import pytest

from jaxlung.parallel import sharding


@pytest.mark.parametrize(
    "error",
    [
        AssertionError(),
        RuntimeError("Unable to initialize backend 'cuda': No visible GPU devices."),
    ],
)
def test_a_kind_of_device_that_is_not_here_is_told(error, monkeypatch):
    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(ValueError, match=r"JAX_PLATFORMS: got 'cpu', and JAX finds no such device"):
        sharding.visible_devices()


def test_a_process_that_does_not_answer_is_another_matter(monkeypatch):
    def devices():
        raise RuntimeError("Unable to initialize backend 'cpu': DEADLINE_EXCEEDED: barrier")

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(RuntimeError, match="DEADLINE_EXCEEDED"):
        sharding.visible_devices()
