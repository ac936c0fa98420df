"""Rows of several runs: means, deviations and pooled folds of made-up runs, worked by hand."""

import csv
import dataclasses
import io

import ml_collections as mlc
import numpy as np
import pytest
from etils import epath

from jaxlung.config import run_files
from jaxlung.metrics import jackknife
from jaxlung.study import charts, contents, pooled, results, rows, runner, study, study_file, tables

COLUMNS = ("dice", "hd95")
PAPER = (study.PaperRow("one split", {"dice": 0.7627}),)


def make_result(path, name, scores, *, group="", seed=0, fold=None, loss=1.0, **summary):
    """A finished run on phantom CTs; fields of a summary that nobody asks for are empty."""
    content = {
        **{field.name: {} for field in dataclasses.fields(run_files.Summary)},
        "split": "test",
        "num_images": 4,
        "num_patients": 3,
        "step": 7,
        "task": "volume_mask",
        "levels": ["background", "infection"],
        "scores": scores,
        **summary,
    }
    data = {"phantom_images": 6, "fold": fold or 0, "folds": 0 if fold is None else 2}
    task = dict(target="infection", region="lung", threshold=0.5, loss="bce_dice", alpha=0.5)
    return results.Result(
        run=study.Run(name, name.upper(), "covid19_ct", group=group),
        config=mlc.ConfigDict(
            {"seed": seed, "data": data, "task_name": "volume_mask", "task": task}
        ),
        path=epath.Path(path / name),
        summary=run_files.Summary(**content),
        epochs=2,
        loss=loss,
        val_loss=loss / 2,
    )


def make_study(found, columns=COLUMNS):
    return study.Study("A study", tuple(x.run for x in found), columns, PAPER, ("A note.",))


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def seeds(tmp_path):
    """Two configurations with three seeds, and a run alone."""
    se, ce = ({"group": name, "intervals": {"dice": [0.1, 0.9]}} for name in ("SE", "CE"))
    return [
        make_result(tmp_path, "se", {"dice": 0.6, "hd95": 10.0}, seed=0, loss=1.0, **se),
        make_result(tmp_path, "se_1", {"dice": 0.7, "hd95": None}, seed=1, loss=2.0, **se),
        make_result(tmp_path, "se_2", {"dice": 0.8, "hd95": None}, seed=2, loss=6.0, **se),
        make_result(tmp_path, "ce", {"dice": 0.5, "hd95": None}, seed=0, **ce),
        make_result(tmp_path, "ce_1", {"dice": 0.5, "hd95": None}, seed=1, **ce),
        make_result(tmp_path, "alone", {"dice": 0.2, "hd95": 3.0}, group="alone"),
    ]


def test_a_group_of_runs_has_a_row_after_its_last(seeds):
    table = read(tables.to_csv(make_study(seeds), rows.make(make_study(seeds), seeds)))
    assert [(row["source"], row["label"]) for row in table] == [
        *(("run", name) for name in ("SE", "SE_1", "SE_2")),
        ("mean", "SE"),
        *(("run", name) for name in ("CE", "CE_1")),
        ("mean", "CE"),
        ("run", "ALONE"),
        ("paper", "one split"),
    ]
    assert [row["seed"] for row in table] == ["0", "1", "2", "", "0", "1", "", "0", ""]
    assert {row["fold"] for row in table} == {""}


def test_a_mean_row_has_mean_and_standard_deviation_of_the_runs(seeds):
    got = {row["label"]: row for row in read(tables.to_csv(*with_table(seeds)))}
    se, ce = got["SE"], got["CE"]
    assert float(se["dice"]) == pytest.approx(0.7)
    assert float(se["dice_sd"]) == pytest.approx(0.1)  # ((0.1 ** 2 + 0 + 0.1 ** 2) / 2) ** 0.5
    assert float(se["loss_train"]) == pytest.approx(3.0)
    assert float(se["loss_validation"]) == pytest.approx(1.5)
    assert (float(ce["dice"]), float(ce["dice_sd"])) == (0.5, 0.0)
    assert se["dice_low"] == se["run"] == se["step"] == se["num_images"] == ""
    assert got["SE_1"]["dice_low"] == "0.1"
    assert got["SE_1"]["dice_sd"] == ""


def with_table(found):
    made = make_study(found)
    return made, rows.make(made, found)


def test_what_no_or_one_run_knows_has_no_deviation(seeds):
    got = {row["label"]: row for row in read(tables.to_csv(*with_table(seeds)))}
    assert (got["SE"]["hd95"], got["SE"]["hd95_sd"]) == ("10.0", "")
    assert (got["CE"]["hd95"], got["CE"]["hd95_sd"]) == ("", "")
    assert rows.mean_and_sd([None, float("nan")]) == (None, None)


SUBJECTS = {  # fold -> image_id, patient_id, dice, hd95
    0: [("a", "p", 0.9, 2.0), ("b", "p", 0.5, np.nan), ("c", "q", 0.1, 6.0)],
    1: [("d", "r", 0.7, 4.0)],
}


def make_folds(path, seed=0, subjects=SUBJECTS):
    found = []
    for fold, tested in subjects.items():
        name = f"fold_{fold}_{seed}"
        dice, hd95 = (float(np.nanmean([row[i] for row in tested])) for i in (2, 3))
        scores = {"dice": dice, "hd95": hd95, "iou": 0.5}
        counts = {"num_images": len(tested), "num_patients": len({row[1] for row in tested})}
        result = make_result(path, name, scores, group="all folds", seed=seed, fold=fold, **counts)
        result.path.mkdir()
        lines = ["image_id,patient_id,group,dice,hd95"]
        lines += [f"{who},{patient},,{x},{y}" for who, patient, x, y in tested]
        (result.path / "scores_test.csv").write_text("\n".join(lines) + "\n")
        found.append(result)
    return found


def test_folds_have_a_mean_row_and_a_row_of_all_their_subjects(tmp_path):
    made, table = with_table(make_folds(tmp_path))
    got = read(tables.to_csv(made, table))
    assert [(row["source"], row["fold"]) for row in got] == [
        ("run", "0"),
        ("run", "1"),
        ("mean", ""),
        ("all", ""),
        ("paper", ""),
    ]
    mean, every = got[2:4]
    assert float(mean["dice"]) == pytest.approx((0.5 + 0.7) / 2)  # Folds weigh the same.
    assert float(every["dice"]) == pytest.approx((0.9 + 0.5 + 0.1 + 0.7) / 4)  # Subjects do.
    assert float(every["hd95"]) == pytest.approx((2 + 6 + 4) / 3)  # b has none.
    assert every["num_images"] == "4"
    assert every["dice_sd"] == every["loss_train"] == ""


def test_the_interval_of_all_subjects_leaves_out_patients(tmp_path):
    """Each written out: the mean without a patient and all subjects of hers."""
    row = rows.of_folds("all", make_folds(tmp_path), ("dice",))[-1]
    values = {"p": [0.9, 0.5], "q": [0.1], "r": [0.7]}
    means = [np.mean([x for other in values if other != p for x in values[other]]) for p in values]
    want = jackknife.interval(np.mean([0.9, 0.5, 0.1, 0.7]), np.array(means), 3, 0.0, 1.0)
    np.testing.assert_allclose(row.intervals["dice"], want, rtol=1e-12)
    assert (row.undefined, row.total) == ({}, 4)


def test_a_score_that_subjects_lack_is_left_empty(tmp_path):
    row = rows.of_folds("all", make_folds(tmp_path), ("dice", "iou"))[-1]
    assert "iou" not in row.scores
    assert row.scores["dice"] == pytest.approx(0.55)


def test_seeds_of_folds_are_pooled_and_subjects_counted_once(tmp_path):
    other = {0: [("a", "p", 0.1, 1.0)], 1: SUBJECTS[0][1:] + SUBJECTS[1]}
    found = make_folds(tmp_path) + make_folds(tmp_path, seed=1, subjects=other)
    row = rows.of_folds("all", found, ("dice",))[-1]
    assert row.facts["num_images"] == 4
    assert row.scores["dice"] == pytest.approx((0.9 + 0.1 + 2 * (0.5 + 0.1 + 0.7)) / 8)


def test_a_subject_of_two_folds_is_told(tmp_path):
    found = make_folds(tmp_path, subjects={0: SUBJECTS[0], 1: SUBJECTS[0][:1]})
    with pytest.raises(ValueError, match=r"fold_1_0/scores_test\.csv: got a, which another fold"):
        rows.make(make_study(found), found)


@pytest.mark.parametrize("text", [None, "", "image_id,dice\na,1\n", "image_id,patient_id\n"])
def test_scores_of_subjects_that_can_not_be_read_are_named(text, tmp_path):
    found = make_folds(tmp_path)
    path = found[1].path / "scores_test.csv"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(ValueError, match=r"fold_1_0/scores_test\.csv: want"):
        pooled.score(found, COLUMNS)


def test_the_markdown_speaks_of_volumes_and_of_several_runs(tmp_path):
    found = make_folds(tmp_path)
    made, table = with_table(found)
    text = tables.to_markdown(contents.make(made, found, table, None))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 2 + 2 + 1
    assert len({line.count("|") for line in lines}) == 1
    assert "| **all folds: mean ± SD over 2 folds** | 0.600 ± 0.141 |" in text
    assert "| **all folds: 4 volumes out of fold** | 0.5500 (" in text
    assert "Scores are from the test split: 4 volumes of 3 patients in 2 folds, with" in text
    assert "test volume." not in text  # No fold is told as if it differed from the others.
    assert "**Generated CTs (phantoms)" in text
    assert lines[0].startswith("| run | Dice | HD95, mm |")
    assert "image" not in text.lower()
    assert "X-ray" not in text


def test_a_score_that_older_tables_can_not_give_out_of_fold_is_told(tmp_path):
    found = make_folds(tmp_path)
    made = make_study(found, (*COLUMNS, "iou", "no_such_score"))
    table = rows.make(made, found)
    text = tables.to_markdown(contents.make(made, found, table, None))
    assert "- IoU: no value out of fold, as an earlier version scored the runs; `jaxlung" in text
    made, table = with_table(found)
    assert "no value out" not in tables.to_markdown(contents.make(made, found, table, None))


def test_deviations_over_folds_and_seeds_have_columns_and_headings_of_their_own(tmp_path):
    other = {0: SUBJECTS[0][:1], 1: SUBJECTS[0][1:] + SUBJECTS[1]}
    found = make_folds(tmp_path) + make_folds(tmp_path, seed=1, subjects=other)
    made, table = with_table(found)
    over_folds, over_seeds, every = read(tables.to_csv(made, table))[-4:-1]
    assert [row.heading for row in table[-4:-1]] == [
        "all folds: mean ± SD over 2 folds",
        "all folds: mean ± SD over 2 seeds",
        "all folds: 4 volumes out of fold",
    ]
    folds = (((0.7 - 0.5) ** 2 / 2 + (0.9 - 1.3 / 3) ** 2 / 2) / 2) ** 0.5  # Root of mean variance.
    assert float(over_folds["dice_sd_folds"]) == pytest.approx(folds)
    assert over_folds["dice_sd"] == over_folds["dice_sd_folds"] == every["dice_sd_folds"]
    assert over_seeds["dice_sd"] == over_seeds["dice_sd_seeds"] == every["dice_sd_seeds"] == "0.0"
    assert over_folds["dice_sd_seeds"] == over_seeds["dice_sd_folds"] == every["dice_sd"] == ""
    assert over_seeds["dice_low"] == over_folds["dice_low"] == ""
    assert float(every["dice_low"]) < float(every["dice"]) < float(every["dice_high"])


def test_the_markdown_of_single_runs_says_nothing_of_groups(seeds, tmp_path):
    alone = seeds[-1:]
    made, table = with_table(alone)
    text = tables.to_markdown(contents.make(made, alone, table, None))
    assert "±" not in text
    assert "out of fold" not in text
    assert "left out" not in text


def test_subjects_that_a_mean_leaves_out_are_told(tmp_path):
    found = [
        make_result(tmp_path, "se", {"dice": 0.6}, undefined={"hd95": 2, "share": 1}),
        make_result(tmp_path, "ce", {"dice": 0.6}, undefined={}),
    ]
    made, table = with_table(found)
    text = tables.to_markdown(contents.make(made, found, table, None))
    assert "HD95, mm: volumes without a value are left out: 2 in SE." in text
    assert "share" not in text.lower()


def test_the_chart_has_a_bar_for_intervals_and_deviations(tmp_path):
    found = make_folds(tmp_path)
    table = rows.make(make_study(found), found)
    axes = charts.score_chart({"dice": "Dice", "hd95": "HD95"}, table).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "FOLD_0_0",
        "FOLD_1_0",
        "all folds: mean ± SD over 2 folds",
        "all folds: 4 volumes out of fold",
        "paper: one split",
    ]
    bars, points = axes.lines[::2], axes.lines[1::2]
    assert [point.get_xdata()[0] for point in points] == pytest.approx(
        [0.5, 0.7, 0.6, 0.55, 0.7627]
    )
    spread = 0.2 / 2**0.5
    np.testing.assert_allclose(bars[2].get_xdata(), [0.6 - spread, 0.6 + spread])
    np.testing.assert_allclose(bars[3].get_xdata(), table[3].intervals["dice"])
    assert np.isnan(bars[4].get_xdata()).all()


def test_the_files_of_a_study_are_written_from_its_runs(tmp_path, monkeypatch):
    found = {result.run.name: result for result in make_folds(tmp_path)}
    monkeypatch.setattr(results, "load", lambda run, config, path, split: found[run.name])
    runner.write(make_study(found.values()), dict.fromkeys(found), epath.Path(tmp_path))
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")
    assert "all folds" in (tmp_path / "study.md").read_text()
    assert len(read((tmp_path / "study.csv").read_text())) == 5


def test_runs_repeat_with_seeds_and_keep_the_first_ones_name():
    runs = (study.Run("a", "A", "c", {"x": 1}), study.Run("b", "B", "c", group="both"))
    assert study.repeat(runs, 1) == runs
    got = study.repeat(runs, 2)
    assert [(run.name, run.label, run.group) for run in got] == [
        ("a", "A, seed 0", "A"),
        ("a_seed1", "A, seed 1", "A"),
        ("b", "B, seed 0", "both"),
        ("b_seed1", "B, seed 1", "both"),
    ]
    assert [dict(run.overrides) for run in got[:2]] == [{"x": 1, "seed": 0}, {"x": 1, "seed": 1}]


@pytest.mark.parametrize("seeds", [0, -1])
def test_no_seed_is_no_study(seeds):
    with pytest.raises(ValueError, match=f"seeds: got {seeds}, want 1 or more"):
        study.repeat((study.Run("a", "A", "c"),), seeds)


def test_runs_of_a_group_that_are_one_and_the_same_are_told(tmp_path):
    runs = study.repeat((study.Run("a", "A", "covidqu:quick"),), 2)
    made = study.Study("t", runs, ("mae",))
    path = epath.Path(tmp_path)
    assert len(study_file.make_configs(made, path)) == 2
    with pytest.raises(
        ValueError, match="run a_seed1: got the same config as run a, want another seed"
    ):
        study_file.make_configs(made, path, ["--config.seed=3"])
