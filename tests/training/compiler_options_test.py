"""Options of XLA by platform: each reaches the programs that it is for, and no other."""

import jax
import pytest

from jaxlung.config import config_file
from jaxlung.training import compiler_options
from jaxlung.training import system as system_lib


@pytest.mark.parametrize(
    ("program", "platform", "is_volumetric", "want"),
    [
        ("train", "cpu", False, compiler_options.BY_EIGEN),
        ("train", "cpu", True, None),
        ("predict", "cpu", False, None),
        ("init", "cpu", True, compiler_options.LESS_OPTIMISED),
        ("train", "gpu", False, None),
        ("train", "gpu", True, compiler_options.CHANNELS_LAST),
        ("evaluate", "gpu", True, compiler_options.CHANNELS_LAST),
        ("predict", "gpu", True, compiler_options.CHANNELS_LAST),
        ("init", "gpu", True, None),
        ("train", "tpu", True, None),
    ],
)
def test_a_program_has_the_options_of_its_platform(program, platform, is_volumetric, want):
    assert compiler_options.choose(program, platform, is_volumetric=is_volumetric) == want


@pytest.mark.parametrize(
    ("config", "train"), [("covidqu:quick", compiler_options.BY_EIGEN), ("covid19_ct:quick", None)]
)
def test_a_systems_programs_are_jitted_with_them(config, train, monkeypatch):
    given = []
    monkeypatch.setattr(
        jax, "jit", lambda function, **settings: given.append(settings["compiler_options"])
    )
    system = system_lib.make_system(config_file.load(config_file.resolve(config)))
    system.jit_train_step(lambda store, item: item)
    system.jit_eval_step()
    system.jit_window_step()
    assert given == [train, None, None]
