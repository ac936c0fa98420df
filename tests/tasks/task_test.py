"""What every task says of itself."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxlung.predict import ensemble
from jaxlung.tasks import task as task_lib
from jaxlung.tasks import tasks

BINARY = dict(threshold=0.5, loss="bce", alpha=0.5)
DIAGNOSIS = dict(crop_pixels=(0, 0, 0), threshold=0.5)
CASES = (
    ("mask", dict(target="lung", **BINARY), "lung", False),
    ("mask", dict(target="infection", **BINARY), "infection", False),
    ("three_level", {}, "levels", False),
    ("diagnosis", dict(lungs="none", **DIAGNOSIS), "diagnosis", False),
    ("diagnosis", dict(lungs="predicted", **DIAGNOSIS), "diagnosis", True),
    ("diagnosis", dict(lungs="true", **DIAGNOSIS), "diagnosis", True),
    ("volume_mask", dict(target="infection", region="lung", **BINARY), "infection", True),
    ("volume_mask", dict(target="infection", region="full", **BINARY), "infection", False),
    ("volume_mask", dict(target="lung", region="full", **BINARY), "lung", False),
)


def test_these_are_all_tasks():
    assert {name for name, *_ in CASES} == tasks.TASKS.keys()


def test_every_role_that_predictions_know_is_that_of_a_task():
    assert set(ensemble.ROLES) <= {role for _, _, role, _ in CASES}


def test_a_threshold_moves_along_with_the_temperature():
    task = tasks.TASKS["mask"](target="lung", **BINARY | {"threshold": 0.2})
    probs = np.linspace(0.001, 0.999, 999)[:, None]
    for temperature in (0.3, 1.0, 4.0):
        moved = task_lib.with_temperature(task, temperature)
        tempered = special.expit(special.logit(probs) / temperature)
        assert moved.threshold == pytest.approx(
            special.expit(special.logit(0.2) / temperature), rel=1e-12
        )
        unsure = abs(probs[:, 0] - 0.2) < 1e-6
        same = moved.postprocess(tempered) == task.postprocess(probs)
        assert np.all(same | unsure)
    half = tasks.TASKS["mask"](target="lung", **BINARY)
    assert task_lib.with_temperature(half, 3.7) is half
    unchosen = tasks.TASKS["diagnosis"](lungs="none", **DIAGNOSIS | {"threshold": 0.0})
    assert task_lib.with_temperature(unchosen, 3.7) is unchosen
    levels = tasks.TASKS["three_level"]()
    assert task_lib.with_temperature(levels, 3.7) is levels


@pytest.mark.parametrize(("name", "settings", "role", "needs_lungs"), CASES)
def test_a_task_knows_what_it_finds_and_whether_it_needs_lungs(name, settings, role, needs_lungs):
    task = tasks.TASKS[name](**settings)
    assert (task.name, task.role, task.needs_lungs) == (name, role, needs_lungs)
    shape = (1, 4, 4, 4) if task.records == "volumes" else (1, 4, 4)
    seen = task.inputs(jnp.ones((*shape, 1)), np.zeros(shape, np.uint8))
    assert bool(jnp.any(seen)) != needs_lungs
