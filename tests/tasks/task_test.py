"""What every task says of itself."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung.predict import ensemble
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


@pytest.mark.parametrize(("name", "settings", "role", "needs_lungs"), CASES)
def test_a_task_knows_what_it_finds_and_whether_it_needs_lungs(name, settings, role, needs_lungs):
    task = tasks.TASKS[name](**settings)
    assert (task.name, task.role, task.needs_lungs) == (name, role, needs_lungs)
    assert task.role in ensemble.ROLES
    shape = (1, 4, 4, 4) if task.records == "volumes" else (1, 4, 4)
    seen = task.inputs(jnp.ones((*shape, 1)), np.zeros(shape, np.uint8))
    assert bool(jnp.any(seen)) != needs_lungs
