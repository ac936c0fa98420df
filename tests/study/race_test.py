"""A sweep from stop to stop: who trains how far, failures, and resuming at any moment."""

import logging as std_logging

import pytest
from etils import epath

from jaxlung import job
from jaxlung.study import race, sweep_results
from tests.study import made_sweep

SLOW, GOOD, BEST, POOR = map(made_sweep.name_of, made_sweep.CURVES)
WANT = [(SLOW, 1), (GOOD, 1), (BEST, 1), (POOR, 1), (GOOD, 2), (BEST, 2), (BEST, 4), (BEST, None)]


class Jobs:
    """Stands for `job.run`; a signal comes in call number `stopped`, some runs fail."""

    def __init__(self, monkeypatch, stopped=None, failing=()):
        self.asked = []
        self._stopped, self._failing = stopped, failing
        monkeypatch.setattr(job, "run", self._run)

    def _run(self, config, path, *, until_epoch=None):
        self.asked.append((path.name, until_epoch))
        if len(self.asked) == self._stopped:
            return
        if path.name in self._failing:
            raise FloatingPointError("step 5: loss is nan")
        if until_epoch:
            made_sweep.train(config, path, until_epoch)
        else:
            (path / job.FINISHED).write_text("4\n")


def run(path):
    path = epath.Path(path)
    return race.run(made_sweep.SWEEP, made_sweep.make_configs(path), path)


def test_the_best_train_on_and_only_the_winner_is_scored(monkeypatch, tmp_path):
    jobs = Jobs(monkeypatch)
    assert run(tmp_path) == (True, {})
    assert jobs.asked == WANT
    assert run(tmp_path) == (True, {})
    assert jobs.asked == WANT  # Nothing more.


@pytest.mark.parametrize("number", range(1, len(WANT) + 1))
def test_a_sweep_stopped_in_any_run_goes_on_with_that_run(monkeypatch, tmp_path, number):
    jobs = Jobs(monkeypatch, stopped=number)
    assert run(tmp_path) == (False, {})
    assert jobs.asked == WANT[:number]
    again = Jobs(monkeypatch)
    assert run(tmp_path) == (True, {})
    assert again.asked == WANT[number - 1 :]


def test_a_run_that_fails_is_out_and_the_others_go_on(monkeypatch, tmp_path, caplog):
    jobs = Jobs(monkeypatch, failing=[BEST])
    with caplog.at_level(std_logging.ERROR):
        assert run(tmp_path) == (True, {BEST: "step 5: loss is nan"})
    assert f"run {BEST} failed and is out: step 5: loss is nan" in caplog.text
    assert jobs.asked[4:] == [(GOOD, 2), (POOR, 2), (GOOD, 4), (GOOD, None)]


def test_a_sweep_whose_runs_all_fail_says_why(monkeypatch, tmp_path):
    Jobs(monkeypatch, failing=[SLOW, GOOD, BEST, POOR])
    with pytest.raises(ValueError, match=r"all 4 runs of the sweep failed; .*: step 5: loss is"):
        run(tmp_path)


def test_results_tell_what_became_of_every_run(monkeypatch, tmp_path):
    Jobs(monkeypatch)
    path = epath.Path(tmp_path)
    run(path)
    found = sweep_results.make(made_sweep.make_study(), made_sweep.make_configs(path), path, {})
    got = [(x.run.name, x.epochs, x.score, x.state) for x in found.outcomes]
    assert got == [
        (BEST, 4, 0.9, "best"),
        (GOOD, 2, 0.6, "stopped"),
        (POOR, 1, 0.2, "stopped"),
        (SLOW, 1, 0.1, "stopped"),
    ]
    assert (found.key, found.num_epochs) == ("mean_iou", 8)
    # All runs are compared after the first epoch, though some trained on.
    effect = next(x for x in found.effects if x.field == made_sweep.FIELD)
    assert [group.mean for group in effect.groups] == [0.1, 0.5, 0.45, 0.2]


def test_means_of_losses_are_losses(monkeypatch, tmp_path):
    """Compared as minus the loss, as lower is better."""
    Jobs(monkeypatch)
    path = epath.Path(tmp_path)
    made = made_sweep.make_study(selection="best")
    configs = made_sweep.make_configs(path, selection="best")
    race.run(made_sweep.SWEEP, configs, path)
    found = sweep_results.make(made, configs, path, {})
    assert found.key == "loss"
    assert found.outcomes[0].score == 0.5
    assert found.effects[0].groups[0].mean == 0.5


def test_the_table_has_the_fields_scores_and_states(monkeypatch, tmp_path):
    Jobs(monkeypatch, failing=[POOR])
    path = epath.Path(tmp_path)
    _, failures = run(path)
    found = sweep_results.make(
        made_sweep.make_study(), made_sweep.make_configs(path), path, failures
    )
    lines = sweep_results.to_csv(found).splitlines()
    assert lines[0] == (
        "place,run,config,optimizer.learning_rate,task.alpha,epochs,validation_mean_iou,state,"
        "failure"
    )
    assert lines[1] == f"1,{BEST},covidqu_residual:quick,0.001,0.5,4,0.9,best,"
    assert lines[4] == f"4,{POOR},covidqu_residual:quick,0.003,0.5,0,,failed,step 5: loss is nan"
