"""Differences between rows: SciPy called directly, simulated studies, and what is left out."""

import csv
import dataclasses
import io
import math

import ml_collections as mlc
import numpy as np
import pytest
from etils import epath
from scipy import special, stats
from sklearn import metrics

from jaxlung.config import run_files
from jaxlung.report import figures
from jaxlung.study import (
    charts,
    comparison,
    comparison_text,
    contents,
    page,
    results,
    rows,
    runner,
    study,
    tables,
)

LABELS = {"dice": "Dice", "hd95": "HD95, mm", "auc": "AUC", "iou_pooled": "IoU pooled"}


TASK = dict(target="infection", region="lung", threshold=0.5, loss="bce_dice", alpha=0.5)


def make_run(path, name, columns, *, people=None, images=None, group="", scores=None, **config):
    """A finished run with its table of images; scores of the split are means, as in a real one."""
    num = len(next(iter(columns.values())))
    ids = images or [f"image{i}" for i in range(num)]
    who = people or [f"patient{i}" for i in range(num)]
    folder = epath.Path(path / name)
    folder.mkdir(parents=True)
    cells = [["" if math.isnan(x) else repr(float(x)) for x in each] for each in columns.values()]
    lines = zip(ids, who, *cells, strict=True)
    text = "\n".join(",".join(line) for line in [("image_id", "patient_id", *columns), *lines])
    (folder / "scores_test.csv").write_text(text + "\n")
    means = {
        key: float(np.nanmean(x)) if np.isfinite(x).any() else None for key, x in columns.items()
    }
    content = {
        **{field.name: {} for field in dataclasses.fields(run_files.Summary)},
        "split": "test",
        "num_images": num,
        "num_patients": len(set(who)),
        "step": 1,
        "task": "volume_mask",
        "levels": ["background", "infection"],
        "scores": means | (scores or {}),
    }
    config = {
        "seed": config.get("seed", 0),
        "data": {"phantom_images": 0, "fold": 0, "folds": config.get("folds", 0)},
        "task_name": config.get("task_name", "volume_mask"),
        "task": config.get("task", TASK),
    }
    return results.Result(
        run=study.Run(name, name.upper(), "covid19_ct", group=group),
        config=mlc.ConfigDict(config),
        path=folder,
        summary=run_files.Summary(**content),
        epochs=1,
        loss=0.5,
        val_loss=0.5,
    )


def make_study(found, columns=("dice",), reference=""):
    runs = tuple(x.run for x in found)
    return study.Study("A study", runs, columns, reference=reference)


def compare(found, columns=("dice",), reference=""):
    return comparison.make(make_study(found, columns, reference), found)


def simulate(np_rng, num_people, gain=0.0, per_person=3):
    """Returns Dice [2, N] of two networks, the second better by `gain` logits; and N patients."""
    person = np.repeat(np.arange(num_people), per_person)
    patient = 2 + np_rng.normal(size=num_people)[person]
    noise = np_rng.normal(size=(2, num_people))[:, person] / 2
    logits = patient + noise + np_rng.normal(size=(2, len(person))) / 2
    logits[1] += gain
    return special.expit(logits), [f"patient{i}" for i in person]


def write_pair(path, np_rng, num_people, **options):
    (one, other), people = simulate(np_rng, num_people, **options)
    return [
        make_run(path, "a", {"dice": one}, people=people),
        make_run(path, "b", {"dice": other}, people=people),
    ]


def test_a_difference_is_scipys_where_each_patient_has_one_image(tmp_path):
    np_rng = np.random.default_rng(0)
    one, other = np_rng.normal(10, 3, (2, 9)).clip(1)
    found = [make_run(tmp_path, "a", {"hd95": one}), make_run(tmp_path, "b", {"hd95": other})]
    (got,) = compare(found, ["hd95"]).differences
    assert (got.first, got.second, got.num_images, got.num_people) == ("B", "A", 9, 9)
    assert got.value == pytest.approx(np.mean(other) - np.mean(one))
    test = stats.permutation_test(
        (other, one), lambda x, y: np.mean(x - y), permutation_type="samples"
    )
    assert got.p == got.p_adjusted == pytest.approx(test.pvalue)
    want = stats.ttest_rel(other, one).confidence_interval()
    assert got.interval == pytest.approx((want.low, want.high))


def test_the_difference_is_that_of_the_table(tmp_path):
    found = write_pair(tmp_path, np.random.default_rng(1), 6)
    (got,) = compare(found).differences
    one, other = (rows.of_run(result).scores["dice"] for result in found)
    assert got.value == pytest.approx(other - one)


def test_swapping_two_rows_turns_every_sign(tmp_path):
    found = write_pair(tmp_path, np.random.default_rng(2), 7)
    (got,), (swapped,) = (compare(x).differences for x in (found, found[::-1]))
    assert (swapped.first, swapped.second) == (got.second, got.first)
    assert swapped.value == -got.value
    assert swapped.interval == pytest.approx((-got.interval[1], -got.interval[0]))
    assert (swapped.p, swapped.verdict) == (got.p, got.verdict)


def test_more_images_of_the_same_patients_do_not_narrow_the_interval(tmp_path):
    (one, other), people = simulate(np.random.default_rng(3), 8)
    many = [
        make_run(tmp_path, name, {"dice": np.tile(x, 25)}, people=people * 25)
        for name, x in (("many_a", one), ("many_b", other))
    ]
    few = [
        make_run(tmp_path, name, {"dice": x}, people=people)
        for name, x in (("few_a", one), ("few_b", other))
    ]
    (got,), (want,) = (compare(x).differences for x in (many, few))
    assert got.num_images == 25 * want.num_images
    assert got.interval == pytest.approx(want.interval)
    assert got.p == want.p


def test_images_are_paired_by_name_and_not_by_order(tmp_path):
    (one, other), people = simulate(np.random.default_rng(4), 6)
    names = [f"image{i}" for i in range(len(people))]
    first = make_run(tmp_path, "a", {"dice": one}, people=people, images=names)
    want = compare(
        [first, make_run(tmp_path, "b", {"dice": other}, people=people, images=names)]
    ).differences
    turned = make_run(tmp_path, "c", {"dice": other[::-1]}, people=people[::-1], images=names[::-1])
    (got,) = compare([first, turned]).differences
    assert (got.value, got.interval, got.p) == (want[0].value, want[0].interval, want[0].p)


def test_intervals_contain_the_difference_as_often_as_they_say(tmp_path):
    truth = np.subtract(*simulate(np.random.default_rng(5), 200_000, gain=0.5)[0][::-1]).mean()
    held = []
    for seed in range(150):
        found = write_pair(tmp_path / str(seed), np.random.default_rng((seed, 6)), 10, gain=0.5)
        (got,) = compare(found).differences
        held.append(got.interval[0] <= truth <= got.interval[1])
    # 142 are expected; fewer than 135 or all come up in one of 100 such tests (binomial).
    assert 135 <= sum(held) < 150


def test_equal_rows_are_rarely_beyond_chance(tmp_path):
    """A study of four equal networks finds any difference in one of twenty cases at most."""
    num_wrong = 0
    for seed in range(60):
        np_rng = np.random.default_rng((seed, 7))
        person = np.repeat(np.arange(9), 2)
        patient = np_rng.normal(2, 1, 9)[person]
        people = [f"patient{i}" for i in person]
        found = [
            make_run(
                tmp_path / str(seed),
                name,
                {"dice": special.expit(patient + np_rng.normal(size=18))},
                people=people,
            )
            for name in "abcd"
        ]
        got = compare(found).differences
        assert len(got) == 6
        num_wrong += any(each.verdict == comparison.BEYOND for each in got)
    assert num_wrong <= 7  # 3 are expected; 8 or more come up in one of 100 (binomial).


def test_a_large_difference_is_beyond_chance(tmp_path):
    (got,) = compare(write_pair(tmp_path, np.random.default_rng(8), 12, gain=1.0)).differences
    assert got.verdict == comparison.BEYOND
    assert got.interval[0] > 0


def test_p_is_adjusted_for_the_pairs_of_a_score(tmp_path):
    np_rng = np.random.default_rng(9)
    base = np_rng.random(12) / 2
    found = [
        make_run(tmp_path, name, {"dice": base + gain + np_rng.random(12) / 50})
        for name, gain in (("a", 0.0), ("b", 0.3), ("c", 0.3))
    ]
    got = {(x.first, x.second): x for x in compare(found).differences}
    assert [*got] == [("B", "A"), ("C", "A"), ("C", "B")]
    smallest = 2 / 2**12
    assert got["B", "A"].p_adjusted == got["C", "A"].p_adjusted == pytest.approx(3 * smallest)
    assert got["C", "B"].p_adjusted == pytest.approx(got["C", "B"].p)


def test_with_too_few_patients_nothing_can_be_found(tmp_path):
    found = [
        make_run(tmp_path, name, {"dice": np.array([0.1, 0.2, 0.3, 0.4]) + gain})
        for name, gain in (("a", 0.0), ("b", 0.5))
    ]
    compared = compare(found)
    (got,) = compared.differences
    assert (got.p, got.verdict) == (0.125, comparison.TOO_FEW)
    text = " ".join(comparison_text.make(compared, LABELS, "volume_mask").sentences)
    assert "with 4 patients and one pair, p can't be below 0.12" in text
    assert "It takes 6 patients." in text
    enough = [
        make_run(tmp_path, name, {"dice": np.arange(6) / 20 + gain})
        for name, gain in (("c", 0.0), ("d", 0.5))
    ]
    assert compare(enough).differences[0].verdict == comparison.BEYOND
    # Of three pairs none can be: 3 * 2 / 2 ** 6 = 0.09.
    third = make_run(tmp_path, "e", {"dice": np.arange(6) / 20 + 0.2})
    verdicts = [each.verdict for each in compare([*enough, third]).differences]
    assert verdicts == [comparison.TOO_FEW] * 3


def test_one_patient_has_a_difference_and_no_more(tmp_path):
    found = [
        make_run(tmp_path, name, {"dice": np.array(x)}, people=["p", "p"])
        for name, x in (("a", [0.1, 0.2]), ("b", [0.4, 0.1]))
    ]
    compared = compare(found)
    (got,) = compared.differences
    assert got.value == pytest.approx(0.1)
    assert got.verdict == comparison.TOO_FEW
    assert np.isnan([*got.interval, got.p, got.p_adjusted]).all()
    section = comparison_text.make(compared, LABELS, "mask")
    assert "Without two patients or more there is neither an interval nor p." in section.sentences
    (row,) = section.table.blocks[0].rows
    assert (row.cells[0].text, row.cells[0].note) == ("+0.1000", "")


def test_images_without_a_value_in_either_row_are_left_out_of_both(tmp_path):
    one, other = np.array([1.0, 2, math.nan, 4, 9]), np.array([2.0, 4, 6, math.nan, 9])
    found = [make_run(tmp_path, "a", {"hd95": one}), make_run(tmp_path, "b", {"hd95": other})]
    (got,) = compare(found, ["hd95"]).differences
    assert got.value == pytest.approx((1 + 2 + 0) / 3)
    assert (got.num_images, got.num_undefined, got.num_people) == (3, 2, 3)


def test_rows_that_test_other_images_are_not_compared(tmp_path):
    values = {"dice": np.array([0.1, 0.5, 0.7])}
    found = [
        make_run(tmp_path, "a", values),
        make_run(tmp_path, "b", values, images=["x", "y", "z"]),
        make_run(tmp_path, "c", values, people=["p", "q", "r"]),
        make_run(tmp_path, "d", values),
    ]
    compared = compare(found)
    assert [(x.first, x.second) for x in compared.differences] == [("D", "A")]
    assert ("B", "A") in compared.unpaired
    assert ("C", "A") in compared.unpaired
    text = comparison_text.make(compared, LABELS, "volume_mask").sentences
    want = "B against A: not compared, as they are not tested on the same volumes."
    assert want in text


def test_a_fold_without_any_value_is_left_out_and_no_more(tmp_path):
    values = {"a": [1.0, 2.0, math.nan, math.nan], "b": [4.0, 3.0, math.nan, math.nan]}
    ids = ["i", "j", "k", "l"]
    found = [
        make_run(
            tmp_path,
            f"{name}{fold}",
            {"hd95": np.array(x[part])},
            group=name,
            images=ids[part],
            people=ids[part],
        )
        for name, x in values.items()
        for fold, part in enumerate([slice(0, 2), slice(2, 4)])
    ]
    (got,) = compare(found, ["hd95"]).differences
    assert (got.value, got.num_images, got.num_undefined) == (2, 2, 2)


def test_scores_that_are_no_means_over_images_are_not_compared(tmp_path):
    """Even if the table has a column of that name."""
    pooled = {"iou_pooled": 0.6, "dice": 0.9}
    columns = {"hd95": np.array([1.0, 2, 3]), "dice": np.array([0.1, 0.2, 0.3])}
    found = [make_run(tmp_path, name, columns, scores=pooled) for name in "ab"]
    compared = compare(found, ["iou_pooled", "hd95", "dice"])
    assert {x.key for x in compared.differences} == {"hd95"}
    text = comparison_text.make(compared, LABELS, "mask").sentences
    assert (
        "Not compared, as they don't follow from the scores of single images: IoU pooled; Dice."
        in text
    )


def test_a_row_without_scores_of_images_is_told(tmp_path):
    found = write_pair(tmp_path, np.random.default_rng(10), 6)
    (found[1].path / "scores_test.csv").unlink()
    compared = compare(found)
    section = comparison_text.make(compared, LABELS, "volume_mask")
    assert (compared.differences, section.table) == ([], None)
    assert section.sentences == ["B: not compared, as there are no scores of single volumes."]


def test_seeds_are_averaged_for_each_image_first(tmp_path):
    np_rng = np.random.default_rng(11)
    values = np_rng.random((4, 8))
    found = [
        make_run(tmp_path, f"{name}{seed}", {"dice": x}, group=name, seed=seed)
        for (name, seed), x in zip([("a", 0), ("a", 1), ("b", 0), ("b", 1)], values, strict=True)
    ]
    compared = compare(found)
    (got,) = compared.differences
    each = values[2:].mean(axis=0) - values[:2].mean(axis=0)
    assert (got.first, got.second, got.num_images) == ("b", "a", 8)
    assert got.value == pytest.approx(each.mean())
    test = stats.permutation_test((each,), np.mean, permutation_type="samples")
    assert got.p == pytest.approx(test.pvalue)
    assert [row.num_runs for row in compared.rows] == [2, 2]
    text = comparison_text.make(compared, LABELS, "mask").sentences
    assert "Runs of a group are averaged for each image before they are compared." in text


def test_folds_are_one_row_of_all_images(tmp_path):
    values = np.random.default_rng(12).random((2, 7))
    images = [f"image{i}" for i in range(7)]
    people = [f"patient{i}" for i in range(7)]
    found = [
        make_run(
            tmp_path,
            f"{name}_{fold}",
            {"dice": x[part]},
            group=name,
            images=images[part],
            people=people[part],
        )
        for name, x in zip("ab", values, strict=True)
        for fold, part in enumerate([slice(0, 4), slice(4, 7)])
    ]
    (got,) = compare(found).differences
    assert got.num_images == 7
    assert got.value == pytest.approx((values[1] - values[0]).mean())


def make_diagnoses(path, np_rng, num=40):
    """Two runs that diagnose the same images, the second well; their probabilities and labels."""
    positive = np.arange(num) % 3 == 0
    found, each = [], []
    for name, apart in (("a", 0.0), ("b", 4.0)):
        probs = special.expit(np_rng.normal(size=num) + apart * (positive - 0.5))
        found.append(make_diagnosis(path, name, probs, positive))
        each.append(probs)
    return found, np.array(each), positive


def make_diagnosis(path, name, probs, positive, **options):
    preds = probs > 0.3
    scores = {
        "auc": None if positive.all() else metrics.roc_auc_score(positive, probs),
        "accuracy": metrics.accuracy_score(positive, preds),
        "accuracy_at_half": metrics.accuracy_score(positive, probs > 0.5),
        "sensitivity": metrics.recall_score(positive, preds),
        "specificity": metrics.recall_score(~positive, ~preds, zero_division=np.nan),
        "f1": metrics.f1_score(positive, preds),
        "ece": 0.1,
    }
    columns = {"probability": probs, "is_positive": positive + 0.0, "right": preds == positive}
    task = dict(lungs="none", crop_pixels=(0, 0, 0), threshold=0.3)
    return make_run(path, name, columns, scores=scores, task_name="diagnosis", task=task, **options)


def test_scores_of_a_diagnosis_are_compared(tmp_path):
    found, _, positive = make_diagnoses(tmp_path, np.random.default_rng(13))
    columns = ["auc", "accuracy", "accuracy_at_half", "sensitivity", "specificity", "f1", "ece"]
    compared = compare(found, columns)
    got = {each.key: each for each in compared.differences}
    assert [*got] == columns[:-1]
    for key, each in got.items():
        one, other = (result.summary.scores[key] for result in found)
        assert each.value == pytest.approx(other - one)
        assert each.is_mean == (key not in ("auc", "f1"))
    assert got["sensitivity"].num_images == got["sensitivity"].num_people == positive.sum()
    assert got["auc"].num_people == positive.sum()
    assert got["auc"].verdict == comparison.BEYOND
    assert got["auc"].interval[0] > 0
    text = comparison_text.make(compared, {x: x for x in columns}, "diagnosis").sentences
    assert any(line.startswith("auc; f1: no mean over images, so p is") for line in text)


def test_the_error_of_an_auc_is_that_of_leaving_out_each_image(tmp_path):
    """Each written out, with scikit-learn's AUC."""
    found, (one, other), positive = make_diagnoses(tmp_path, np.random.default_rng(18), num=12)
    (got,) = compare(found, ["auc"]).differences
    left_out = []
    for image in range(12):
        rest = np.arange(12) != image
        aucs = [metrics.roc_auc_score(positive[rest], x[rest]) for x in (other, one)]
        left_out.append(aucs[0] - aucs[1])
    error = math.sqrt(11 / 12 * np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    assert got.p == pytest.approx(2 * stats.t.sf(got.value / error, positive.sum() - 1))


def test_aucs_of_seeds_are_averaged_in_any_order_of_images(tmp_path):
    np_rng = np.random.default_rng(14)
    found = [
        dataclasses.replace(each, run=dataclasses.replace(each.run, name=f"{i}", group=str(i % 2)))
        for i, each in enumerate(
            x for part in "pq" for x in make_diagnoses(tmp_path / part, np_rng)[0]
        )
    ]
    (got,) = compare(found, ["auc"]).differences
    aucs = [result.summary.scores["auc"] for result in found]
    assert got.value == pytest.approx((aucs[1] + aucs[3] - aucs[0] - aucs[2]) / 2)
    path = found[0].path / "scores_test.csv"
    head, *lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([head, *lines[::-1]]))
    assert compare(found, ["auc"]).differences == [got]


def test_aucs_of_folds_are_of_all_images_together(tmp_path):
    """Also if a fold has one class, and no AUC of its own."""
    np_rng = np.random.default_rng(19)
    positive = np.arange(20) % 2 == 0
    positive[:9] = True
    probs = special.expit(np_rng.normal(size=(2, 20)) + [[0.5], [2]] * (positive - 0.5))
    ids = [f"image{i:02}" for i in range(20)]
    found = [
        make_diagnosis(
            tmp_path,
            f"{name}{fold}",
            x[part],
            positive[part],
            group=name,
            folds=2,
            images=ids[part],
            people=ids[part],
        )
        for name, x in zip("ab", probs, strict=True)
        for fold, part in enumerate([slice(0, 9), slice(9, 20)])
    ]
    (got,) = compare(found, ["auc"]).differences
    one, other = (metrics.roc_auc_score(positive, x) for x in probs)
    assert got.value == pytest.approx(other - one)


def test_pooled_scores_are_compared(tmp_path):
    """IoU of all voxels together, and of all but each patient's, from counts."""
    np_rng = np.random.default_rng(20)
    counts = np_rng.integers(1, 50, (2, 10, 4)).astype(float)
    names = [f"count_{level}_{pred}" for level in (0, 1) for pred in (0, 1)]

    def iou(x):
        _, extra, missed, hit = x.sum(axis=0)
        return hit / (hit + extra + missed)

    found = [
        make_run(tmp_path, name, dict(zip(names, x.T, strict=True)), scores={"iou_pooled": iou(x)})
        for name, x in zip("ab", counts, strict=True)
    ]
    (got,) = compare(found, ["iou_pooled"]).differences
    assert got.value == pytest.approx(iou(counts[1]) - iou(counts[0]))
    left_out = [
        iou(np.delete(counts[1], i, axis=0)) - iou(np.delete(counts[0], i, axis=0))
        for i in range(10)
    ]
    error = math.sqrt(9 * np.var(left_out))
    assert got.p == pytest.approx(2 * stats.t.sf(abs(got.value) / error, 9))
    assert (got.is_mean, got.num_people) == (False, 10)


def make_many(path, num):
    np_rng = np.random.default_rng(15)
    return [make_run(path, f"r{i}", {"dice": np_rng.random(8)}) for i in range(num)]


@pytest.mark.parametrize(
    ("num", "reference", "want"),
    [
        (3, "", [("R1", "R0"), ("R2", "R0"), ("R2", "R1")]),
        (3, "R1", [("R0", "R1"), ("R2", "R1")]),
        (5, "", [(f"R{i}", "R0") for i in range(1, 5)]),
        (5, "R4", [(f"R{i}", "R4") for i in range(4)]),
    ],
)
def test_few_rows_are_all_compared_and_many_with_the_reference(num, reference, want, tmp_path):
    compared = compare(make_many(tmp_path, num), reference=reference)
    got = compared.differences
    assert [(each.first, each.second) for each in got] == want
    text = " ".join(comparison_text.make(compared, LABELS, "mask").sentences)
    assert (f"Each row is compared with {want[0][1]} alone." in text) == (
        num > 3 or reference != ""
    )
    assert {each.num_pairs for each in got} == {len(want)}


def test_a_reference_that_is_no_row_is_told(tmp_path):
    found = make_many(tmp_path, 2)
    with pytest.raises(ValueError, match="got reference 'unet', want one of R0, R1"):
        make_study(found, reference="unet")


def test_a_study_of_one_row_has_no_differences(tmp_path):
    found = [
        make_run(tmp_path, f"a{seed}", {"dice": np.arange(3) / 5}, group="a") for seed in range(2)
    ]
    assert compare(found) is None
    table = rows.make(make_study(found), found)
    content = contents.make(make_study(found), found, table, None, None)
    assert "Differences" not in tables.to_markdown(content)


def test_the_csv_has_a_line_per_score_and_pair(tmp_path):
    compared = compare(make_many(tmp_path, 3))
    got = list(csv.DictReader(io.StringIO(tables.differences_to_csv(compared))))
    assert len(got) == 3
    for line, each in zip(got, compared.differences, strict=True):
        assert (line["score"], line["first"], line["second"]) == ("dice", each.first, each.second)
        numbers = [float(line[key]) for key in ("difference", "low", "high", "p", "p_adjusted")]
        assert numbers == [each.value, *each.interval, each.p, each.p_adjusted]
        assert line["verdict"] == each.verdict


def test_the_chart_has_a_point_and_a_bar_per_pair_and_a_line_at_0(tmp_path):
    found = write_pair(tmp_path, np.random.default_rng(16), 12, gain=1.0)
    (one, _), people = simulate(np.random.default_rng(16), 12)
    found.append(make_run(tmp_path, "c", {"dice": one + 1e-4 * np.arange(36) % 3}, people=people))
    compared = compare(found)
    axes = charts.difference_chart(comparison_text.make(compared, LABELS, "mask")).axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["B against A", "C against A", "C against B"]
    line, *drawn = axes.lines
    assert [*line.get_xdata()] == [0, 0]
    for each, bar, point in zip(compared.differences, drawn[::2], drawn[1::2], strict=True):
        assert (*bar.get_xdata(), *point.get_xdata()) == (*each.interval, each.value)
        is_filled = point.get_markerfacecolor() == figures.LIGHT.first
        assert is_filled == (each.verdict == comparison.BEYOND)
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # The first pair is on top.


def test_the_words_are_the_same_on_the_page_and_in_markdown(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "to_png", lambda figure: b"png")
    found = {x.run.name: x for x in write_pair(tmp_path, np.random.default_rng(17), 12, gain=2.0)}
    monkeypatch.setattr(results, "load", lambda run, config, path, split: found[run.name])
    made = make_study(found.values(), ["dice", "iou_pooled"])
    runner.write(made, dict.fromkeys(found), epath.Path(tmp_path))
    markdown, html = ((tmp_path / name).read_text() for name in ("study.md", "study.html"))
    section = markdown.split("## Differences")[1].split("## Runs")[0]
    told = [line for line in section.splitlines() if line.startswith("- ")]
    assert len(told) > 5
    for line in told:
        assert line[2:].replace("'", "&#39;") in html
    assert "| Dice: B against A | +0." in section
    assert "beyond chance |" in section
    assert "<h2>Differences</h2>" in html
    for name in ("study_differences.csv", page.DIFFERENCES):
        assert (tmp_path / name).exists()
        assert f'href="{name}"' in html


@pytest.mark.parametrize(
    ("p", "want"), [(0.0004, "< 0.001"), (0.0123, "0.012"), (1.0, "1.000"), (math.nan, "\u2013")]
)
def test_p_is_written_with_three_decimals(p, want):
    assert comparison_text.format_p(p) == want
