"""Splits patients into training, validation and test: drawn by seed, or checked as given."""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence

from jaxlung.config import config_arg, run_files


def draw(
    patient_ids: Iterable[str], *, validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, str]:
    """Draws a split for every patient.

    Patients are ranked by a hash of seed and name. So the result does not depend on any library's
    random generator, and adding a patient moves only a few others.

    Args:
        patient_ids: names of the patients; repeats count once.
        validation_fraction: share of the patients to validate on, in (0, 1); at least one patient.
        test_fraction: share of the patients to test on, in (0, 1); at least one patient.
        seed: seed of the draw.

    Returns:
        patient_id -> one of `run_files.SPLITS`.

    Raises:
        ValueError: fractions out of range, or a split without patients.
    """
    _check_fractions(validation_fraction, test_fraction)
    ranked = sorted(set(patient_ids), key=lambda patient: (_rank(seed, patient), patient))
    num_test = max(1, round(test_fraction * len(ranked)))
    num_held = num_test + max(1, round(validation_fraction * len(ranked)))
    if num_held >= len(ranked):
        raise ValueError(
            f"want at least three patients, one for each of {', '.join(run_files.SPLITS)}, got "
            f"{len(ranked)} with validation_fraction {validation_fraction} and test_fraction "
            f"{test_fraction}."
        )
    splits = dict.fromkeys(ranked, "train")
    splits.update(dict.fromkeys(ranked[:num_test], "test"))
    splits.update(dict.fromkeys(ranked[num_test:num_held], "validation"))
    return splits


def draw_within(
    group_of: Mapping[str, str],
    *,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    fold: int = 0,
    folds: int = 0,
) -> dict[str, str]:
    """Draws splits in every group of patients by itself, so that each split has its share of all.

    Args:
        group_of: patient_id -> group.
        validation_fraction: share of each group's patients to validate on, in (0, 1).
        test_fraction: share of each group's patients to test on, in (0, 1); unused with `folds`.
        seed: seed of the draw, one for all folds.
        fold: index of the fold of a cross-validation that is tested, from 0; see `draw_fold`.
        folds: number of folds, 2 or more; 0 for no cross-validation.

    Returns:
        patient_id -> one of `run_files.SPLITS`.

    Raises:
        ValueError: see `draw`, and names the group; or there is no such fold.
    """
    config_arg.require_fold(fold, folds)
    if folds:
        return _draw_fold_within(group_of, validation_fraction, fold, folds, seed)
    splits: dict[str, str] = {}
    for group in sorted(set(group_of.values())):
        patients = [patient for patient, own in group_of.items() if own == group]
        try:
            splits |= draw(
                patients,
                validation_fraction=validation_fraction,
                test_fraction=test_fraction,
                seed=seed,
            )
        except ValueError as error:
            raise ValueError(f"patients of {group!r}: {error}") from error
    return splits


def draw_at_most(group_of: Mapping[str, str], most: int, seed: int) -> set[str]:
    """Draws `most` images of every group, or all of a group that has no more.

    Args:
        group_of: image_id -> group.
        most: largest number of images of a group; 0 draws all.
        seed: seed of the draw.

    Returns:
        The image_ids.

    Raises:
        ValueError: a negative number.
    """
    if most < 0:
        raise ValueError(f"data.max_train_per_class: got {most}, want 1 or more, or 0 for all.")
    drawn: set[str] = set()
    for group in set(group_of.values()):
        members = [image_id for image_id, own in group_of.items() if own == group]
        drawn.update(sorted(members, key=lambda image_id: _rank(seed, image_id))[: most or None])
    return drawn


@dataclasses.dataclass(frozen=True)
class Patient:
    """A patient in a draw that counts records.

    Attributes:
        num_records: number of the patient's records, which stay together.
        group: group of the patient; every split has its share of each group.
    """

    num_records: int
    group: str


def draw_counts(
    patients: Mapping[str, Patient], *, num_validation: int, num_test: int, seed: int
) -> dict[str, str]:
    """Draws a split for every patient, with exact numbers of records in validation and test.

    Args:
        patients: patient_id -> patient.
        num_validation: number of records to validate on, 1 or more.
        num_test: number of records to test on, 1 or more; some must be left to train on.
        seed: seed of the draw.

    Returns:
        patient_id -> one of `run_files.SPLITS`.

    Raises:
        ValueError: there are not enough records, or no set of patients has that many.
    """
    ranked = _interleave({who: patient.group for who, patient in patients.items()}, seed)
    test = _pick(ranked, patients, num_test, "num_test")
    rest = [patient for patient in ranked if patient not in test]
    validation = _pick(rest, patients, num_validation, "num_validation")
    return _assemble(ranked, validation, test)


def draw_fold(
    patients: Mapping[str, Patient], *, fold: int, folds: int, num_validation: int, seed: int
) -> dict[str, str]:
    """Draws the splits of one fold of a cross-validation, which tests every patient once.

    Two folds differ by at most one patient in what they have of a group. The validation split is
    filled from the next fold's test patients first, so that no patient chooses the checkpoints of
    all folds.

    Args:
        patients: patient_id -> patient.
        fold: index of the fold, from 0.
        folds: number of folds, 2 or more.
        num_validation: number of records in the validation split, out of those not tested.
        seed: seed of the draw, which is one for all folds.

    Returns:
        patient_id -> one of `run_files.SPLITS`.

    Raises:
        ValueError: no such fold, fewer patients than folds, or see `draw_counts`.
    """
    test, rest = _deal({who: patient.group for who, patient in patients.items()}, fold, folds, seed)
    validation = _pick(rest, patients, num_validation, "num_validation")
    return _assemble([*test, *rest], validation, test)


def _draw_fold_within(
    group_of: Mapping[str, str], validation_fraction: float, fold: int, folds: int, seed: int
) -> dict[str, str]:
    """Draws the splits of one fold, with the single split's share of each group to validate on.

    A group's last patient that isn't tested trains, however small the group is.
    """
    _check_fractions(validation_fraction, 1 / folds)
    test, rest = _deal(group_of, fold, folds, seed)
    sizes = collections.Counter(group_of.values())
    validation: list[str] = []
    for group, size in sizes.items():
        left = [patient for patient in rest if group_of[patient] == group]
        share = max(1, round(validation_fraction * size))
        validation += left[: max(0, min(share, len(left) - 1))]
    if not validation:  # No group has two patients that aren't tested.
        validation = rest[: max(1, round(validation_fraction * len(group_of)))]
    return _assemble([*test, *rest], validation, test)


def _deal(
    group_of: Mapping[str, str], fold: int, folds: int, seed: int
) -> tuple[list[str], list[str]]:
    """Returns the patients that a fold tests; and the others, beginning with the next fold's.

    Patients are dealt in turn, as long as no fold gets more than its share of their group.
    """
    config_arg.require_fold(fold, folds)
    if folds > len(group_of):
        raise ValueError(
            f"data.folds: got {folds}, want no more than there are patients, {len(group_of)}."
        )
    sizes = collections.Counter(group_of.values())
    uneven = {group: size % folds for group, size in sizes.items()}  # Folds that get one more.
    dealt: list[list[str]] = [[] for _ in range(folds)]
    of_group: collections.Counter[tuple[str, int]] = collections.Counter()
    for turn, patient in enumerate(_interleave(group_of, seed)):
        group = group_of[patient]
        share = sizes[group] // folds
        room = [k for k in range(folds) if of_group[group, k] < share + (uneven[group] > 0)]
        chosen = min(room, key=lambda k: (len(dealt[k]), (k - turn) % folds))
        uneven[group] -= of_group[group, chosen] == share
        of_group[group, chosen] += 1
        dealt[chosen].append(patient)
    test, *others = dealt[fold:] + dealt[:fold]
    return test, [patient for other in others for patient in other]


def _interleave(group_of: Mapping[str, str], seed: int) -> list[str]:
    """Returns all patients in a drawn order whose every part has its share of each group."""
    ranked = sorted(group_of, key=lambda patient: (_rank(seed, patient), patient))
    places: dict[str, tuple[float, str]] = {}
    for group in sorted(set(group_of.values())):
        members = [patient for patient in ranked if group_of[patient] == group]
        places |= {who: ((i + 0.5) / len(members), group) for i, who in enumerate(members)}
    return sorted(ranked, key=places.__getitem__)


def _pick(
    ranked: Sequence[str], patients: Mapping[str, Patient], count: int, field: str
) -> list[str]:
    """Returns the first patients with `count` records in all; skips those with too many."""
    picked, left = [], count
    for patient in ranked:
        if patients[patient].num_records <= left:
            picked.append(patient)
            left -= patients[patient].num_records
    if count < 1 or left:
        total = sum(patients[patient].num_records for patient in ranked)
        raise ValueError(
            f"data.{field}: got {count}, want 1 or more, and a number that whole patients sum to: "
            f"there are {total} records of {len(ranked)} patients for it."
        )
    return picked


def _assemble(
    ranked: Sequence[str], validation: Sequence[str], test: Sequence[str]
) -> dict[str, str]:
    splits = dict.fromkeys(ranked, "train")
    splits |= dict.fromkeys(validation, "validation") | dict.fromkeys(test, "test")
    if "train" not in splits.values():
        raise ValueError(
            f"validation and test, of {len(validation)} and {len(test)}, take all patients; want "
            "at least one to train on."
        )
    return splits


def check_given(patients_and_splits: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns the split of every patient, from a pair (patient_id, split) per image.

    Raises:
        ValueError: a patient is in two splits, or a split has no patient.
    """
    splits: dict[str, str] = {}
    for patient_id, split in patients_and_splits:
        if splits.setdefault(patient_id, split) != split:
            raise ValueError(
                f"patient {patient_id!r} is in two splits, {splits[patient_id]} and {split}."
            )
    for split in run_files.SPLITS:
        if split not in splits.values():
            raise ValueError(f"the split {split} is empty; want at least one image in each.")
    return splits


def _check_fractions(validation_fraction: float, test_fraction: float) -> None:
    in_range = validation_fraction > 0 and test_fraction > 0
    if not (in_range and validation_fraction + test_fraction < 1):
        raise ValueError(
            f"want validation_fraction and test_fraction above 0 and together below 1, got "
            f"{validation_fraction} and {test_fraction}."
        )


def _rank(seed: int, patient_id: str) -> bytes:
    return hashlib.sha256(f"{seed}/{patient_id}".encode()).digest()
