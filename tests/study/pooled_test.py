"""Out-of-fold scores, against scikit-learn, and by hand where it has none."""

import numpy as np
import pytest
from sklearn import metrics

from jaxlung.metrics import jackknife
from jaxlung.study import contents, pooled, rows, study
from tests.study import made_folds

NUM = 40  # images, of 20 patients
COLUMNS = ("accuracy", "sensitivity", "specificity", "precision", "f1", "auc", "loss")


def draw(seed):
    """Labels, the same for all seeds, and probabilities and losses, [NUM] each."""
    labels = np.random.default_rng(9).random(NUM) < 0.4
    np_rng = np.random.default_rng(seed)
    return labels, np.clip(np_rng.normal(0.35 + 0.3 * labels, 0.2), 0, 1), np_rng.random(NUM)


def make_diagnoses(path, seeds):
    """Two folds for each seed, patients shuffled into them."""
    runs = []
    for seed in seeds:
        labels, probs, losses = draw(seed)
        fold_of = np.random.default_rng(seed).permutation(NUM // 2) % 2
        for fold in (0, 1):
            rows = [
                {
                    "image_id": f"i{i}",
                    "patient_id": f"p{i // 2}",
                    "group": "",
                    "loss": losses[i],
                    "probability": probs[i],
                    "is_positive": int(labels[i]),
                    "right": float((probs[i] > 0.5) == labels[i]),
                }
                for i in range(NUM)
                if fold_of[i // 2] == fold
            ]
            scores = {"accuracy": float(np.mean([row["right"] for row in rows]))}
            runs.append(made_folds.make_run(path, "diagnosis", seed, fold, rows, scores=scores))
    return runs


def score_with_sklearn(labels, probs, losses):
    preds = probs > 0.5
    return {
        "accuracy": metrics.accuracy_score(labels, preds),
        "sensitivity": metrics.recall_score(labels, preds),
        "specificity": metrics.recall_score(labels, preds, pos_label=0),
        "precision": metrics.precision_score(labels, preds),
        "f1": metrics.f1_score(labels, preds),
        "auc": metrics.roc_auc_score(labels, probs),
        "loss": losses.mean(),
    }


def mean_over_seeds(seeds, which):
    """Each score of the images in `which`, by scikit-learn, as the mean over the seeds."""
    each = [score_with_sklearn(*(x[which] for x in draw(seed))) for seed in seeds]
    return {key: np.mean([scored[key] for scored in each]) for key in each[0]}


@pytest.mark.parametrize("seeds", [(0,), (3, 1, 2)])
def test_scores_are_of_all_images_of_a_seed_and_averaged_over_seeds(tmp_path, seeds):
    got = pooled.score(make_diagnoses(tmp_path, seeds), COLUMNS)
    want = mean_over_seeds(seeds, np.arange(NUM))
    assert got.scores == pytest.approx(want, rel=1e-12)
    assert (got.num_images, got.num_folds, got.num_seeds) == (NUM, 2, len(seeds))
    assert got.undefined == {}


@pytest.mark.parametrize("seeds", [(0,), (3, 1, 2)])
def test_intervals_leave_out_a_patient_with_all_images_and_seeds(tmp_path, seeds):
    got = pooled.score(make_diagnoses(tmp_path, seeds), COLUMNS)
    people = np.arange(NUM) // 2
    score = mean_over_seeds(seeds, np.arange(NUM))
    left_out = [mean_over_seeds(seeds, people != who) for who in range(NUM // 2)]
    positive, _, _ = draw(0)
    rarer = min(len(set(people[kind].tolist())) for kind in (positive, ~positive))
    for key, number, high in (("auc", rarer, 1.0), ("accuracy", NUM // 2, 1.0)):
        without = np.array([scored[key] for scored in left_out])
        want = jackknife.interval(score[key], without, number, 0.0, high)
        np.testing.assert_allclose(got.intervals[key], want, rtol=1e-9)


def test_deviations_over_folds_and_over_seeds_are_apart(tmp_path):
    seeds = (3, 1, 2)
    runs = make_diagnoses(tmp_path, seeds)
    got = pooled.score(runs, ("accuracy",))
    by_fold = np.array([run.summary.scores["accuracy"] for run in runs]).reshape(3, 2)
    want = np.sqrt(np.mean(np.var(by_fold, axis=1, ddof=1)))
    assert got.sd_folds["accuracy"] == pytest.approx(want)
    by_seed = [score_with_sklearn(*draw(seed))["accuracy"] for seed in seeds]
    assert got.sd_seeds["accuracy"] == pytest.approx(np.std(by_seed, ddof=1))
    one = pooled.score(runs[:2], ("accuracy",))
    assert one.sd_seeds == {"accuracy": None}
    assert one.sd_folds["accuracy"] == pytest.approx(np.std(by_fold[0], ddof=1))


def make_masks(path, seed, cells):
    """A fold for each dict of image -> (Dice or None, [2, 2] counts)."""
    runs = []
    for fold, images in enumerate(cells):
        rows = [
            {
                "image_id": image_id,
                "patient_id": image_id,
                "group": "",
                "hd95": "" if hd95 is None else hd95,
                **{f"count_{t}_{p}": counts[t][p] for t in (0, 1) for p in (0, 1)},
            }
            for image_id, (hd95, counts) in images.items()
        ]
        runs.append(made_folds.make_run(path, "mask", seed, fold, rows))
    return runs


def test_pixels_are_pooled_and_images_without_a_score_are_counted(tmp_path):
    one = {"a": (2.0, [[50, 5], [3, 42]]), "b": (None, [[90, 0], [10, 0]])}
    runs = make_masks(tmp_path, 0, [one, {"c": (4.0, [[10, 1], [2, 87]])}])
    got = pooled.score(runs, ("hd95", "dice_pooled", "no_such_score"))
    hits, misses, alarms = 42 + 0 + 87, 3 + 10 + 2, 5 + 0 + 1
    assert got.scores == {
        "hd95": pytest.approx(3.0),
        "dice_pooled": pytest.approx(2 * hits / (2 * hits + misses + alarms)),
    }
    assert got.undefined == {"hd95": 1}


def test_images_without_a_score_are_counted_once_whatever_the_seed(tmp_path):
    counts = [[50, 5], [3, 42]]
    one = {"a": (2.0, counts), "b": (None, counts)}
    runs = make_masks(tmp_path, 0, [one, {"c": (4.0, counts), "d": (8.0, counts)}])
    one = {"a": (1.0, counts), "c": (None, counts)}
    runs += make_masks(tmp_path, 1, [one, {"b": (None, counts), "d": (2.0, counts)}])
    got = pooled.score(runs, ("hd95",))
    assert got.undefined == {"hd95": 2}  # b and c
    assert got.scores["hd95"] == pytest.approx(((2 + 4 + 8) / 3 + (1 + 2) / 2) / 2)


def test_an_image_in_two_folds_of_a_seed_is_told(tmp_path):
    image = {"a": (2.0, [[50, 5], [3, 42]])}
    with pytest.raises(ValueError, match=r"fold_1_seed_0/scores_test\.csv: got a, which another"):
        pooled.score(make_masks(tmp_path, 0, [image, image]), ("hd95",))


def test_the_text_says_what_pooling_does_to_auc(tmp_path):
    runs = make_diagnoses(tmp_path, (0,))
    made = study.Study("Folds", tuple(run.run for run in runs), ("accuracy", "auc"))
    content = contents.make(made, runs, rows.make(made, runs), None)
    assert [line.heading for line in content.lines[-2:]] == [
        "all folds: mean \N{PLUS-MINUS SIGN} SD over 2 folds",
        f"all folds: {NUM} images out of fold",
    ]
    assert [text for text in content.sentences if "AUC out of fold ranks" in text]
    without = study.Study("Folds", made.runs, ("accuracy",))
    content = contents.make(without, runs, rows.make(without, runs), None)
    assert not [text for text in content.sentences if "AUC" in text]
