"""V7's COVID-19 X-rays: lungs drawn by annotators, split by patient within both classes."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from jaxlung.data.sources import dataset, derived, prepared
from jaxlung.data.splits import patient_split
from tfds_builders.phantoms import v7_covid_cxr as phantoms
from tfds_builders.v7_covid_cxr import v7_covid_cxr_dataset_builder

PART = dataset.Part(v7_covid_cxr_dataset_builder.Builder, phantoms)
PROTOCOLS = ("paper", "paper_both", "halves")


def open_splits(
    variant: str,
    *,
    needs: int,
    seed: int,
    protocol: str,
    held_out_fraction: float,
    max_train_per_class: int,
    fold: int,
    folds: int,
    **fields: Any,
) -> dataset.Splits:
    """Opens the X-rays, with patients held out in both classes.

    Protocol "paper" tests on all held-out patients and validates on those with COVID-19, as in
    Zhang's paper on lungs, section 4.2. "paper_both" tests and validates on all of them, as in
    Zhang's paper on diagnosis, which has no other images. "halves" validates on one half of the
    held-out patients and tests on the other. In a cross-validation, whose protocol must be
    "halves", a fold is tested, and as many patients validate as in halves of a single split.

    Args:
        variant: size that images are stored at: "256", "512", "1024" or "native".
        needs: see `dataset.Dataset`.
        seed: seed of the splits, one for all folds.
        protocol: one of `PROTOCOLS`.
        held_out_fraction: share of each class's patients that are not trained on, in (0, 1).
        max_train_per_class: largest number of training images of a class; 0 for all.
        fold: index of the fold of a cross-validation that is tested, from 0.
        folds: number of folds, 2 or more; 0 for no cross-validation.
        **fields: see `dataset.Part.open`.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"data.protocol: got {protocol!r}, want one of {', '.join(PROTOCOLS)}.")
    if folds and protocol != "halves":
        raise ValueError(
            f"data.folds: got {folds} with data.protocol={protocol!r}, which fixes the splits; "
            "want --config.data.protocol=halves."
        )
    builder = PART.open(variant, needs=needs, **fields)
    source = prepared.PreparedImages(builder, "full")
    groups = source.groups()
    if protocol == "paper" and prepared.COVID not in groups:
        raise ValueError(
            f"data.protocol: got {protocol!r}, which validates on patients with {prepared.COVID}, "
            f"but these annotations have no diagnoses of it ({builder.data_path}); use "
            "--config.data.protocol=halves."
        )
    split_of = patient_split.draw_within(
        _group_patients(source, groups),
        validation_fraction=held_out_fraction / 2,
        test_fraction=held_out_fraction / 2,
        seed=seed,
        fold=fold,
        folds=folds,
    )
    indices = derived.indices_of(source, split_of)
    if protocol != "halves":
        held_out = sorted(indices["validation"] + indices["test"])
        covid = [i for i in held_out if groups[i] == prepared.COVID]
        indices |= {"validation": covid if protocol == "paper" else held_out, "test": held_out}
    image_ids = [image_id for image_id, _ in source.people()]
    trained = {image_ids[i]: groups[i] for i in indices["train"]}
    drawn = patient_split.draw_at_most(trained, max_train_per_class, seed)
    indices["train"] = [i for i in indices["train"] if image_ids[i] in drawn]
    _log_counts(indices, groups)
    return {split: derived.Subset(source, own) for split, own in indices.items()}


def _group_patients(source: prepared.PreparedImages, groups: Sequence[str]) -> dict[str, str]:
    """Returns the class of every patient; COVID-19 for a person with images of both classes."""
    group_of: dict[str, str] = {}
    for (_, patient), group in zip(source.people(), groups, strict=True):
        if group_of.get(patient) != prepared.COVID:
            group_of[patient] = group
    return group_of


def _log_counts(indices: Mapping[str, Sequence[int]], groups: Sequence[str]) -> None:
    for split, own in indices.items():
        counts = collections.Counter(groups[i] for i in own)
        listed = ", ".join(f"{count:,} {group}" for group, count in sorted(counts.items()))
        logging.info("%s: %s", split, listed)


DATASET = dataset.Dataset(open_splits, (PART,))
