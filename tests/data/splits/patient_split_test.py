"""Tests of splits by patient: sizes, independence from order, stability."""

import collections
import hashlib

import pytest
from absl.testing import parameterized

from jaxlung.config import run_files
from jaxlung.data.splits import patient_split

PATIENTS = [f"patient{i}" for i in range(200)]


def draw(patients=PATIENTS, validation_fraction=0.1, test_fraction=0.2, seed=0):
    return patient_split.draw(
        patients,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        seed=seed,
    )


def members(splits, name):
    return {patient for patient, split in splits.items() if split == name}


class DrawTest(parameterized.TestCase):
    def test_every_patient_has_a_split_of_the_size_asked(self):
        splits = draw()
        assert set(splits) == set(PATIENTS)
        sizes = [len(members(splits, name)) for name in run_files.SPLITS]
        assert sizes == [140, 20, 40]

    def test_order_and_repeats_do_not_matter(self):
        assert draw(PATIENTS[::-1] + PATIENTS[:50]) == draw()

    def test_another_seed_is_another_draw(self):
        # Chance alone leaves a fifth of the test patients in common.
        assert len(members(draw(), "test") & members(draw(seed=1), "test")) < 20

    def test_one_patient_more_moves_few(self):
        more = draw([*PATIENTS, "new"])
        assert sum(more[patient] != split for patient, split in draw().items()) <= 2

    def test_the_draw_stays_the_same_from_release_to_release(self):
        # A split that changes with the software would leak test patients into a resumed run.
        ranked = sorted(PATIENTS, key=lambda p: hashlib.sha256(f"7/{p}".encode()).hexdigest())
        assert members(draw(seed=7), "test") == set(ranked[:40])
        assert members(draw(seed=7), "validation") == set(ranked[40:60])

    def test_small_sets_get_one_patient_each(self):
        splits = draw(["a", "b", "c"], 0.1, 0.1)
        assert sorted(splits.values()) == ["test", "train", "validation"]

    @parameterized.parameters(
        (0.0, 0.1), (0.1, 0.0), (0.5, 0.5), (-0.1, 0.2), (1.2, 0.1), (float("nan"), 0.1)
    )
    def test_absurd_fractions_are_named(self, validation_fraction, test_fraction):
        with pytest.raises(ValueError, match=rf"got {validation_fraction} and {test_fraction}"):
            draw(PATIENTS, validation_fraction, test_fraction)

    @parameterized.parameters(0, 1, 2)
    def test_too_few_patients_are_named(self, count):
        with pytest.raises(ValueError, match=f"each of train, validation, test, got {count} with"):
            draw(PATIENTS[:count])


class DrawWithinTest(parameterized.TestCase):
    groups = {f"sick{i}": "sick" for i in range(20)} | {f"well{i}": "well" for i in range(180)}

    def draw(self, groups=None, validation_fraction=0.1, test_fraction=0.2, seed=0):
        return patient_split.draw_within(
            groups or self.groups,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            seed=seed,
        )

    @parameterized.parameters(0, 1)
    def test_every_split_has_its_share_of_every_group(self, seed):
        splits = self.draw(seed=seed)
        assert set(splits) == set(self.groups)
        for group, want in {"sick": [14, 2, 4], "well": [126, 18, 36]}.items():
            sizes = [
                sum(self.groups[patient] == group for patient in members(splits, name))
                for name in run_files.SPLITS
            ]
            assert sizes == want

    def test_a_group_is_drawn_as_if_it_were_alone(self):
        sick = {patient: group for patient, group in self.groups.items() if group == "sick"}
        together = self.draw()
        assert self.draw(sick) == {patient: together[patient] for patient in sick}
        assert self.draw(dict(reversed(self.groups.items()))) == together

    def test_a_group_of_too_few_is_named(self):
        with pytest.raises(ValueError, match="patients of 'rare': want at least three patients"):
            self.draw(self.groups | {"one": "rare"})


class CheckGivenTest(parameterized.TestCase):
    def test_agreeing_pairs_are_kept(self):
        pairs = [("a", "train"), ("b", "test"), ("a", "train"), ("c", "validation")]
        assert patient_split.check_given(pairs) == dict(pairs)

    def test_conflicts_and_empty_splits_are_named(self):
        with pytest.raises(ValueError, match="patient 'a' is in two splits, train and test"):
            patient_split.check_given([("a", "train"), ("a", "test")])
        with pytest.raises(ValueError, match="split test is empty"):
            patient_split.check_given([("a", "train"), ("b", "validation")])


CASES = {f"a{i}": patient_split.Patient(1, "a") for i in range(10)}
CASES |= {f"b{i}": patient_split.Patient(1, "b") for i in range(6)}
CASES |= {name: patient_split.Patient(2, "b") for name in ("twins", "pair")}  # 20 volumes


def count(splits, name):
    return sum(CASES[patient].num_records for patient in members(splits, name))


def groups(splits, name):
    return {CASES[patient].group for patient in members(splits, name)}


class DrawCountsTest(parameterized.TestCase):
    @parameterized.parameters(*range(20))
    def test_splits_have_as_many_records_as_asked_of_every_group(self, seed):
        splits = patient_split.draw_counts(CASES, num_validation=2, num_test=4, seed=seed)
        assert set(splits) == set(CASES)
        assert [count(splits, name) for name in run_files.SPLITS] == [14, 2, 4]
        assert groups(splits, "test") == groups(splits, "train") == {"a", "b"}

    def test_another_seed_is_another_draw(self):
        draws = [
            patient_split.draw_counts(CASES, num_validation=2, num_test=4, seed=seed)
            for seed in range(10)
        ]
        assert len({frozenset(members(splits, "test")) for splits in draws}) > 5

    @parameterized.parameters(
        (dict(num_validation=0, num_test=4), r"data\.num_validation: got 0"),
        (dict(num_validation=2, num_test=21), r"data\.num_test: got 21, want 1 or more"),
        (dict(num_validation=17, num_test=4), r"data\.num_validation: got 17"),
        (dict(num_validation=16, num_test=4), "take all patients"),
    )
    def test_numbers_that_can_not_be_are_named(self, numbers, message):
        with pytest.raises(ValueError, match=message):
            patient_split.draw_counts(CASES, **numbers, seed=0)

    def test_patients_of_two_are_never_parted_to_reach_a_number(self):
        pairs = dict.fromkeys("abc", patient_split.Patient(2, ""))
        with pytest.raises(ValueError, match=r"got 1, want .* whole patients .* 6 records of 3"):
            patient_split.draw_counts(pairs, num_validation=2, num_test=1, seed=0)


class DrawFoldTest(parameterized.TestCase):
    @parameterized.product(folds=[2, 5, 18], seed=[0, 1])
    def test_every_patient_is_tested_once(self, folds, seed):
        draws = [
            patient_split.draw_fold(CASES, fold=fold, folds=folds, num_validation=2, seed=seed)
            for fold in range(folds)
        ]
        tested = [patient for splits in draws for patient in members(splits, "test")]
        assert sorted(tested) == sorted(CASES)
        assert all(count(splits, "validation") == 2 for splits in draws)
        sizes = [len(members(splits, "test")) for splits in draws]
        assert max(sizes) - min(sizes) <= 1

    @parameterized.parameters(0, 1, 2)
    def test_folds_have_both_groups_and_validate_on_different_patients(self, seed):
        draws = [
            patient_split.draw_fold(CASES, fold=fold, folds=5, num_validation=2, seed=seed)
            for fold in range(5)
        ]
        assert all(groups(splits, "test") == {"a", "b"} for splits in draws)
        assert len({frozenset(members(splits, "validation")) for splits in draws}) == 5

    @parameterized.parameters(
        (dict(fold=5, folds=5), r"data\.fold: got 5 of 5 folds"),
        (dict(fold=-1, folds=5), r"data\.fold: got -1"),
        (dict(fold=1, folds=0), r"data\.fold: got 1 of 0 folds"),
        (dict(fold=0, folds=1), r"data\.folds: got 1, want 2 or more, or 0"),
        (dict(fold=0, folds=19), r"data\.folds: got 19, want no more than .* patients, 18"),
    )
    def test_folds_that_can_not_be_are_named(self, which, message):
        with pytest.raises(ValueError, match=message):
            patient_split.draw_fold(CASES, **which, num_validation=2, seed=0)


def test_zhangs_tables_2_to_5_but_for_a_rounding():
    """5,957 and 439 images (Zhang, Table 1), each as if of a patient of its own."""
    group_of = {f"o{i}": "other" for i in range(5957)} | {f"c{i}": "COVID-19" for i in range(439)}
    splits = patient_split.draw_within(
        group_of, validation_fraction=0.15, test_fraction=0.15, seed=0
    )
    trained = collections.Counter(group_of[who] for who in splits if splits[who] == "train")
    held_out = collections.Counter(group_of[who] for who in splits if splits[who] != "train")
    assert (trained["COVID-19"], held_out["COVID-19"]) == (307, 132)  # Tables 2 and 3
    assert (trained["other"], held_out["other"]) == (4170 - 1, 1787 + 1)  # Tables 4 and 5


def test_as_many_of_every_group_are_drawn_and_all_of_a_smaller_one():
    group_of = {f"a{i}": "a" for i in range(20)} | {f"b{i}": "b" for i in range(3)}
    drawn = patient_split.draw_at_most(group_of, 5, seed=0)
    assert collections.Counter(group_of[who] for who in drawn) == {"a": 5, "b": 3}
    assert patient_split.draw_at_most(group_of, 0, seed=0) == set(group_of)
    assert patient_split.draw_at_most(group_of, 5, seed=1) != drawn
    backwards = dict(reversed(group_of.items()))
    assert patient_split.draw_at_most(backwards, 5, seed=0) == drawn
