"""COVID-19-CT-Seg (Ma et al., 2021): CT volumes, split by patient."""

import collections
from typing import Any

from jaxlung.data.sources import dataset, derived, prepared
from jaxlung.data.splits import patient_split
from tfds_builders.covid19_ct_seg import covid19_ct_seg_dataset_builder
from tfds_builders.phantoms import covid19_ct_seg as phantoms

PART = dataset.Part(covid19_ct_seg_dataset_builder.Builder, phantoms)


def open_splits(
    variant: str,
    *,
    needs: int,
    seed: int,
    num_validation: int,
    num_test: int,
    fold: int,
    folds: int,
    **fields: Any,
) -> dataset.Splits:
    """Opens the CTs with given numbers of them held out, or as one fold of a cross-validation.

    Every split has its share of both origins.

    Args:
        variant: "native", the only one.
        needs: see `dataset.Dataset`.
        seed: seed of the splits.
        num_validation: number of CTs in the validation split, 1 or more.
        num_test: number of CTs in the test split, 1 or more; not used in a cross-validation.
        fold: index of the fold that is tested, from 0.
        folds: number of folds, 2 or more; 0 for no cross-validation.
        **fields: see `dataset.Part.open`.
    """
    source = prepared.PreparedVolumes(PART.open(variant, needs=needs, **fields), "full")
    people = [patient for _, patient in source.people()]
    num_of = collections.Counter(people)
    group_of = dict(zip(people, source.groups(), strict=True))
    patients = {who: patient_split.Patient(num_of[who], group_of[who]) for who in num_of}
    if folds:
        split_of = patient_split.draw_fold(
            patients, fold=fold, folds=folds, num_validation=num_validation, seed=seed
        )
    else:
        split_of = patient_split.draw_counts(
            patients, num_validation=num_validation, num_test=num_test, seed=seed
        )
    return derived.divide(source, split_of)


DATASET = dataset.Dataset(open_splits, (PART,))
