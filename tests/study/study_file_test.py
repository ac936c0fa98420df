"""Sweeps in study files: their runs and configs, and what can't be compared."""

import dataclasses

import pytest
from etils import epath
from scipy import stats

from jaxlung.config import config_file
from jaxlung.study import study, study_file, sweep
from tests.study import made_sweep

RUN = study.Run("unet", "U-Net", "covidqu_residual:quick", {"selection": "best_score"})


def make(fields, run=RUN, **settings):
    made = sweep.Sweep(fields=fields, **settings)
    return study.Study("t", study.vary(run, made), ("dice",), sweep=made)


def make_configs(made, overrides=()):
    return study_file.make_configs(made, epath.Path("/nowhere"), overrides)


def test_each_run_has_its_values_in_config_name_and_label():
    made = make({"task.loss": ("bce", "dice"), "optimizer.learning_rate": (0.1, 0.01)})
    assert [run.name for run in made.runs] == [
        "unet-bce-0.1",
        "unet-bce-0.01",
        "unet-dice-0.1",
        "unet-dice-0.01",
    ]
    assert made.runs[1].label == "U-Net, loss bce, learning_rate 0.01"
    configs = make_configs(made)
    got = [(x.task.loss, x.optimizer.learning_rate, x.selection) for x in configs.values()]
    assert got == [(x, y, "best_score") for x in ("bce", "dice") for y in (0.1, 0.01)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task.los": ("bce",)}, r"--config\.task\.los: the config has no such field; nearest"),
        ({"data.batch_size": ("many",)}, "unet-many: .*batch_size"),
        ({"optimizer.learning_rate": ("fast",)}, "unet-fast: .*learning_rate"),
        ({"epochs": (2, 3)}, r"unet-3: got epochs=3 beside 2, want the same epochs"),
        ({"selection": ("best", "last")}, "got selection='last' beside 'best', want the same"),
    ],
)
def test_values_that_a_config_can_not_have_are_told_before_any_run_starts(fields, message):
    with pytest.raises(ValueError, match=message):
        make_configs(make(fields))


def test_losses_of_different_loss_functions_are_not_compared():
    run = dataclasses.replace(RUN, overrides={"selection": "best"})
    made = make({"task.loss": ("bce", "dice")}, run)
    with pytest.raises(ValueError, match=r"unet-dice: got selection='best'.*want selection='best_"):
        make_configs(made)
    make_configs(make({"optimizer.learning_rate": (0.1, 0.2)}, run))  # The same loss.


def test_a_first_stop_at_the_end_is_refused():
    rates = {"optimizer.learning_rate": stats.loguniform(1e-4, 1e-2)}
    made = make(rates, runs=4, reduction=2, first_epochs=2)
    with pytest.raises(ValueError, match=r"first_epochs: got 2, want fewer than the 2 epochs"):
        make_configs(made)
    make_configs(made, ["--config.epochs=3"])


def test_a_field_that_varies_can_not_be_set_for_all_runs():
    made = make({"task.loss": ("bce", "dice")})
    with pytest.raises(ValueError, match=r"--config\.task\.loss: the study varies this field"):
        make_configs(made, ["--config.task.loss=bce"])


@pytest.mark.parametrize("changes", [{"overrides": {"seed": 1}}, {"in_table": False}])
def test_all_runs_of_a_sweep_are_from_vary(changes):
    made = made_sweep.make_study()
    other = dataclasses.replace(made.runs[0], name="other", **changes)
    with pytest.raises(ValueError, match="got run 'other' in a sweep, want only runs from study"):
        dataclasses.replace(made, runs=(*made.runs, other))


@pytest.mark.parametrize("arg", ["", "quick", "runs=9,seed=2,target=infection,network=v7_unet"])
def test_the_recipe_varies_fields_of_every_network_of_ones_own_images(arg):
    made = study_file.load(config_file.resolve(f"folder_recipe:{arg}", "study"))
    configs = make_configs(made, ["--config.data.root=mine"])
    assert len(configs) == {"": 16, "quick": 4}.get(arg, 9)
    assert {config.data.root for config in configs.values()} == {"mine"}
    rates = {config.optimizer.learning_rate for config in configs.values()}
    assert len(rates) == len(configs)
    again = study_file.load(config_file.resolve(f"folder_recipe:{arg}", "study"))
    assert again.runs == made.runs
