"""A sweep from stop to stop: who trains how far, failures, and resuming at any moment."""

import pytest
from etils import epath

from jaxlung.study import devices, race, schedule, sweep_results, worker, workers
from tests.study import made_sweep

SLOW, GOOD, BEST, POOR = map(made_sweep.name_of, made_sweep.CURVES)
WANT = [(SLOW, 1), (GOOD, 1), (BEST, 1), (POOR, 1), (GOOD, 2), (BEST, 2), (BEST, None)]


def play(path, stop_after=99, failing=(), take=0):
    """Does the tasks of a sweep in place of `schedule.run`; returns those done, and the race.

    Args:
        path: The study's folder.
        stop_after: Number of tasks after which a signal comes.
        failing: Runs that fail.
        take: The task to do next: 0 for the first that is left, -1 for the last.
    """
    path = epath.Path(path)
    made = race.Race(made_sweep.SWEEP, made_sweep.make_configs(path), path)
    done, left = [], made.next_tasks()
    while left and len(done) < stop_after:
        task = left.pop(take)
        done.append((task.name, task.until_epoch))
        assert task.path == path / "runs" / task.name
        status = schedule.Status(task, schedule.FINISHED)
        if task.name in failing:
            status = schedule.Status(task, schedule.FAILED, reason="step 5: loss is nan")
        else:
            made_sweep.train(task.config, task.path, task.until_epoch)
        left += made.on_end(status)
    return done, made


def test_the_best_train_on_and_only_the_winner_is_scored(tmp_path):
    done, made = play(tmp_path)
    assert done == WANT
    made.require_winner()
    assert play(tmp_path)[0] == WANT[-1:]  # Which the schedule finds finished.


def test_runs_may_end_in_any_order(tmp_path):
    done, _ = play(tmp_path, take=-1)
    assert [until for _, until in done] == [until for _, until in WANT]
    assert set(done) == set(WANT)


@pytest.mark.parametrize("number", range(len(WANT)))
def test_a_sweep_that_was_stopped_anywhere_goes_on_with_what_is_left(tmp_path, number):
    assert play(tmp_path, stop_after=number)[0] == WANT[:number]
    assert play(tmp_path)[0] == WANT[number:]


def test_nothing_is_decided_while_a_run_still_trains(tmp_path):
    """Though its table of epochs is longer already: its checkpoint may not be there yet."""
    path = epath.Path(tmp_path)
    made = race.Race(made_sweep.SWEEP, made_sweep.make_configs(path), path)
    tasks = made.next_tasks()
    for task in tasks:
        made_sweep.train(task.config, task.path, task.until_epoch)
    for task in tasks[:-1]:
        assert not made.on_end(schedule.Status(task, schedule.FINISHED))
    assert len(made.on_end(schedule.Status(tasks[-1], schedule.FINISHED))) == 2


def test_a_run_that_fails_is_out_and_the_others_go_on(tmp_path):
    done, made = play(tmp_path, failing=[BEST])
    assert made.failures == {BEST: "step 5: loss is nan"}
    assert done[4:] == [(GOOD, 2), (POOR, 2), (GOOD, None)]


@pytest.mark.parametrize("code", [-9, -15, worker.STOPPED])
def test_a_run_that_was_killed_is_not_out(tmp_path, code):
    """Nothing is decided without it; the same command trains it again."""
    path = epath.Path(tmp_path)
    made = race.Race(made_sweep.SWEEP, made_sweep.make_configs(path), path)
    killed, *others = made.next_tasks()
    process = workers.Worker(None, devices.Place("", ()), path / "log.txt", 0, 0.0)
    status = schedule.Status(killed, schedule.FAILED, reason=process.explain(code))
    assert not made.on_end(status)
    for task in others:
        made_sweep.train(task.config, task.path, task.until_epoch)
        assert not made.on_end(schedule.Status(task, schedule.FINISHED))
    assert not made.failures
    assert play(path)[0] == WANT[:1] + WANT[4:]


def test_a_sweep_whose_runs_all_fail_says_why(tmp_path):
    done, made = play(tmp_path, failing=[SLOW, GOOD, BEST, POOR])
    assert len(done) == 4
    with pytest.raises(ValueError, match=r"all 4 runs failed; .*: step 5: loss is nan"):
        made.require_winner()


def test_the_next_best_run_has_the_place_of_one_that_fails_in_its_last_epochs(tmp_path):
    path = epath.Path(tmp_path)
    play(path, stop_after=6)
    made = race.Race(made_sweep.SWEEP, made_sweep.make_configs(path), path)
    (task,) = made.next_tasks()
    (after,) = made.on_end(schedule.Status(task, schedule.FAILED, reason="step 9: loss is nan"))
    assert made.failures == {BEST: "step 9: loss is nan"}
    # Of the second stop, POOR is a racer again; GOOD has reached it already.
    assert (after.name, after.until_epoch) == (POOR, 2)


def test_a_best_run_that_fails_when_it_is_scored_stays_the_best(tmp_path):
    path = epath.Path(tmp_path)
    play(path)
    made = race.Race(made_sweep.SWEEP, made_sweep.make_configs(path), path)
    (task,) = made.next_tasks()
    assert (task.name, task.until_epoch) == (BEST, None)
    assert not made.on_end(schedule.Status(task, schedule.FAILED, reason="disk full"))
    assert not made.failures


def test_results_tell_what_became_of_every_run(tmp_path):
    path = epath.Path(tmp_path)
    play(path)
    found = sweep_results.make(made_sweep.make_study(), made_sweep.make_configs(path), path, {})
    got = [(x.run.name, x.epochs, x.score, x.first_score, x.state) for x in found.outcomes]
    assert got == [
        (BEST, 4, 0.9, 0.45, "best"),
        (GOOD, 2, 0.6, 0.5, "stopped"),
        (POOR, 1, 0.2, 0.2, "stopped"),
        (SLOW, 1, 0.1, 0.1, "stopped"),
    ]
    assert (found.key, found.num_epochs) == ("mean_iou", 8)
    # All runs are compared after the first epoch, though some trained on.
    effect = next(x for x in found.effects if x.field == made_sweep.FIELD)
    assert [group.mean for group in effect.groups] == [0.1, 0.5, 0.45, 0.2]


def test_means_of_losses_are_losses(tmp_path):
    """Compared as minus the loss, as lower is better."""
    path = epath.Path(tmp_path)
    made = made_sweep.make_study(selection="best")
    configs = made_sweep.make_configs(path, selection="best")
    for name, config in configs.items():
        made_sweep.train(config, path / "runs" / name, 4)
    found = sweep_results.make(made, configs, path, {})
    assert found.key == "loss"
    assert found.outcomes[0].score == 0.5
    assert found.effects[0].groups[0].mean == 0.5


def test_the_table_has_the_fields_scores_and_states(tmp_path):
    path = epath.Path(tmp_path)
    failures = play(path, failing=[POOR])[1].failures
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
