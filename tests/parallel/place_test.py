"""The place of a process, in the words of the screen."""

import os
import socket
import types

import jax
import pytest

from jaxlung.parallel import place

MACHINE = socket.gethostname().partition(".")[0]


@pytest.mark.parametrize(
    ("numbers", "want"),
    [((), ""), ((3,), "3"), ((1, 0), "0-1"), ((0, 1, 2, 5, 7, 8), "0-2,5,7-8")],
)
def test_numbers_that_follow_each_other_are_a_range(numbers, want):
    assert place.join_ranges(numbers) == want


@pytest.mark.parametrize(
    ("platform", "environ", "want"),
    [
        ("gpu", {"CUDA_VISIBLE_DEVICES": "4,5"}, "gpu 4,5"),
        ("gpu", {}, "gpu 0-1"),
        ("tpu", {"TPU_VISIBLE_CHIPS": "2"}, "tpu 2"),
    ],
)
def test_accelerators_are_numbered_as_on_the_machine(platform, environ, want, monkeypatch):
    devices = [types.SimpleNamespace(platform=platform, id=number) for number in (0, 1)]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert place.describe(environ) == f"{MACHINE}, {want}"


@pytest.mark.parametrize(("cores", "want"), [({0, 1, 2, 3}, "cpu"), ({2, 3}, "cpu 2-3")])
def test_cores_are_named_if_they_are_some_of_the_machines(cores, want, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert place.describe({}) == f"{MACHINE}, {want}"
