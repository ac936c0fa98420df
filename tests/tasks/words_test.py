"""Every task has words."""

import subprocess
import sys

import pytest

from jaxlung.tasks import tasks, words


def test_every_task_has_words():
    assert words.WORDS.keys() == tasks.TASKS.keys()


@pytest.mark.parametrize("task", words.WORDS)
def test_words_name_scores_units_and_what_is_found(task):
    found = words.find(task)
    assert "{found}" in found.description
    assert found.headlines
    assert found.logged
    assert found.modality in ("X-ray", "CT")
    assert found.is_volumetric == (found.modality == "CT") == (found.unit == "voxel")
    assert found.counts_images == (found.unit == "image")


def test_an_unknown_task_has_plain_words():
    assert words.find("unheard_of") == words.Words()


def test_words_need_no_jax():
    code = "import sys, jaxlung.tasks.words; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
