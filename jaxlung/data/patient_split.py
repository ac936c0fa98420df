"""Training, validation and test patients: drawn by seed, or checked as given."""

import hashlib
from collections.abc import Iterable, Mapping

SPLITS = ("train", "validation", "test")


def draw(
    patient_ids: Iterable[str], *, validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, str]:
    """Gives every patient a split.

    Patients are ranked by a hash of seed and name, so the outcome depends on no library's
    generator, and one patient more moves at most a few others.

    Args:
        patient_ids: repeats count once.
        validation_fraction: of the patients, in (0, 1), at least one patient.
        test_fraction: likewise; both leave at least one patient to train on.
        seed: another seed, another draw.

    Returns:
        patient_id -> one of `SPLITS`.

    Raises:
        ValueError: fractions out of range, or fewer than one patient for some split.
    """
    _check_fractions(validation_fraction, test_fraction)
    ranked = sorted(set(patient_ids), key=lambda patient: (_rank(seed, patient), patient))
    num_test = max(1, round(test_fraction * len(ranked)))
    num_held = num_test + max(1, round(validation_fraction * len(ranked)))
    if num_held >= len(ranked):
        raise ValueError(
            f"want at least three patients, one for each of {', '.join(SPLITS)}, got {len(ranked)} "
            f"with validation_fraction {validation_fraction} and test_fraction {test_fraction}."
        )
    splits = dict.fromkeys(ranked, "train")
    splits.update(dict.fromkeys(ranked[:num_test], "test"))
    splits.update(dict.fromkeys(ranked[num_test:num_held], "validation"))
    return splits


def draw_within(
    group_of: Mapping[str, str], *, validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, str]:
    """`draw` in every group of patients by itself, so that all splits have their share of each.

    Args:
        group_of: patient_id -> group.
        validation_fraction: of each group's patients, in (0, 1).
        test_fraction: likewise.
        seed: another seed, another draw.

    Raises:
        ValueError: as `draw`, with the group's name.
    """
    splits = {}
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


def check_given(patients_and_splits: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The split of every patient, from pairs that name it once per image.

    Raises:
        ValueError: a patient is in two splits, or a split has no patient.
    """
    splits: dict[str, str] = {}
    for patient_id, split in patients_and_splits:
        if splits.setdefault(patient_id, split) != split:
            raise ValueError(
                f"patient {patient_id!r} is in two splits, {splits[patient_id]} and {split}."
            )
    for split in SPLITS:
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
