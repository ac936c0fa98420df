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


def digest(splits):
    return hashlib.sha256(repr(sorted(splits.items())).encode()).hexdigest()[:8]


def draw_folds(group_of, folds, seed=0, validation_fraction=0.15):
    return [
        patient_split.draw_within(
            group_of,
            validation_fraction=validation_fraction,
            test_fraction=0.5,  # Unused.
            seed=seed,
            fold=fold,
            folds=folds,
        )
        for fold in range(folds)
    ]


class FoldsWithinTest(parameterized.TestCase):
    @parameterized.product(
        sizes=[(10, 10), (16, 4), (137, 61), (31, 3, 2), (23,), (1, 1, 1, 1, 1, 1, 1)],
        folds=[2, 3, 5, 7],
        seed=[0, 1],
    )
    def test_everyone_is_tested_once_with_a_share_of_each_group_in_every_fold(
        self, sizes, folds, seed
    ):
        group_of = {f"{group}-{i}": str(group) for group, n in enumerate(sizes) for i in range(n)}
        draws = draw_folds(group_of, folds, seed)
        tested = [who for splits in draws for who in members(splits, "test")]
        assert sorted(tested) == sorted(group_of)
        of_fold = [collections.Counter(map(group_of.get, members(x, "test"))) for x in draws]
        for group, size in enumerate(sizes):
            assert {counts[str(group)] for counts in of_fold} <= {size // folds, -(-size // folds)}
        for splits in draws:
            assert set(splits) == set(group_of)
            assert all(members(splits, name) for name in run_files.SPLITS)

    @parameterized.parameters(0, 1)
    def test_the_following_folds_validate_with_the_single_splits_share_of_each_group(self, seed):
        group_of = {f"a{i}": "a" for i in range(137)} | {f"b{i}": "b" for i in range(60)}
        draws = draw_folds(group_of, 5, seed)
        for splits, following in zip(draws, draws[1:] + draws[:1], strict=True):
            validation = members(splits, "validation")
            assert validation < members(following, "test")  # A fold is larger than 15 %.
            # 0.15 * 137 and 0.15 * 60, as `draw_within` rounds them without folds.
            assert collections.Counter(map(group_of.get, validation)) == {"a": 21, "b": 9}

    def test_a_small_groups_last_patient_trains_where_it_is_not_tested(self):
        group_of = {f"a{i}": "a" for i in range(20)} | {"b": "b"}
        splits = [draw["b"] for draw in draw_folds(group_of, 5)]
        assert sorted(splits) == ["test", *["train"] * 4]

    def test_order_does_not_matter_and_another_seed_is_another_draw(self):
        group_of = {f"a{i}": "a" for i in range(20)} | {f"b{i}": "b" for i in range(9)}
        backwards = dict(reversed(group_of.items()))
        assert draw_folds(backwards, 4) == draw_folds(group_of, 4)
        assert draw_folds(group_of, 4, seed=1) != draw_folds(group_of, 4)

    def test_what_can_not_be_is_named(self):
        pair = {"a": "", "b": ""}
        with pytest.raises(ValueError, match=r"of 1 and 1, take all patients; want at least one"):
            draw_folds(pair, 2)
        with pytest.raises(ValueError, match=r"data\.folds: got 3, want no more .* patients, 2"):
            draw_folds(pair, 3)
        with pytest.raises(ValueError, match=r"together below 1, got 0\.9 and 0\.5"):
            draw_folds(dict.fromkeys("abcd", ""), 2, validation_fraction=0.9)


@pytest.mark.parametrize(("folds", "shares"), [(2, {5}), (4, {2, 3})])
def test_two_groups_that_take_turns_are_both_in_every_fold(folds, shares):
    """Every second patient is of group a, so every second, or fourth, would be of one group."""
    pairs = {f"{group}{i}": patient_split.Patient(1, group) for group in "ab" for i in range(10)}
    for fold in range(folds):
        splits = patient_split.draw_fold(pairs, fold=fold, folds=folds, num_validation=2, seed=0)
        tested = collections.Counter(who[0] for who in members(splits, "test"))
        assert set(tested.values()) <= shares
        assert len(tested) == 2


def test_the_folds_of_the_20_cts_are_those_of_earlier_versions():
    """Ten patients, and eight of whom two have two CTs; drawn before groups could not alias."""
    patients = {f"a{i}": patient_split.Patient(1, "a") for i in range(10)}
    patients |= {f"b{i}": patient_split.Patient(2 if i < 2 else 1, "b") for i in range(8)}
    draws = [
        patient_split.draw_fold(patients, fold=fold, folds=5, num_validation=2, seed=seed)
        for seed in (0, 1)
        for fold in range(5)
    ]
    assert list(map(digest, draws)) == [
        *("e7f13c5f", "49757d5d", "7c66855d", "59465c90", "670db0e0"),
        *("53f0b078", "6c244bf9", "5566b513", "7c166849", "86891db2"),
    ]


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
