"""Datasets by name: each opens as three sources; a new one is a builder and one line here."""

import collections
import functools
from collections.abc import Callable, Mapping
from typing import Any

from absl import logging

from jaxlung.config import run_files
from jaxlung.data import record
from jaxlung.data.sources import derived, folder, prepared, prepared_ct
from jaxlung.data.splits import patient_split
from tfds_builders.covid19_ct_seg import covid19_ct_seg_dataset_builder
from tfds_builders.covid_qu_ex import covid_qu_ex_dataset_builder
from tfds_builders.montgomery_cxr import montgomery_cxr_dataset_builder
from tfds_builders.phantoms import covid19_ct_seg as phantom_covid19_ct
from tfds_builders.phantoms import covid_qu_ex as phantom_covid_qu_ex
from tfds_builders.phantoms import montgomery_cxr as phantom_montgomery
from tfds_builders.phantoms import shenzhen_cxr as phantom_shenzhen
from tfds_builders.phantoms import v7_covid_cxr as phantom_v7
from tfds_builders.shenzhen_cxr import shenzhen_cxr_dataset_builder
from tfds_builders.v7_covid_cxr import v7_covid_cxr_dataset_builder

V7_PROTOCOLS = ("paper", "paper_both", "halves")


def open_splits(
    fields: Mapping[str, Any], *, needs: int, seed: int, may_prepare: bool = True
) -> Mapping[str, record.Source]:
    """Opens the dataset that a config's `data` section names.

    Args:
        fields: "name" ("covid_qu_ex/infection", "cxr_lungs/512"), and what its opener takes.
        needs: bits of `record` that the task must find annotated.
        seed: of splits that are drawn.
        may_prepare: prepare, generate or download data that are not there.

    Returns:
        "train", "validation" and "test".

    Raises:
        ValueError: an unknown name, data that can't be used, or annotations that are not there.
        FileNotFoundError: the data are not there; says where to get them and where to put them.
    """
    fields = dict(fields)
    dataset, _, variant = fields.pop("name").partition("/")
    if dataset not in DATASETS:
        raise ValueError(f"data.name: got {dataset!r}, want one of {', '.join(DATASETS)}.")
    if dataset != "folder":  # There is nothing to prepare.
        fields["may_prepare"] = may_prepare
    return DATASETS[dataset](variant, needs=needs, seed=seed, **fields)


def may_lack(fields: Mapping[str, Any], needs: int) -> Callable[[str], bool]:
    """Tells which groups of records may show nothing of what is looked for.

    Of a user's folders those that are declared negative; of other datasets any group, unless it is
    lungs that are looked for: everybody has them.

    Args:
        fields: as for `open_splits`.
        needs: bits of `record` that the task looks for.
    """
    if fields["name"] == "folder":
        roots = fields["root"], fields["csv"], fields["negative_roots"]
        return folder.negative_groups(*roots).__contains__
    return lambda group: needs != record.LUNG


def _open_folder(
    variant: str, *, needs: int, seed: int, **fields: Any
) -> Mapping[str, record.Source]:
    targets = {bit: target for target, bit in record.BITS.items()}
    if variant or needs not in targets:
        raise ValueError(
            "data.name='folder' holds one binary mask an image; "
            "want task_name='mask' and no variant in the name."
        )
    return folder.open_splits(target=targets[needs], seed=seed, **fields)


def _open_covid_qu_ex(
    variant: str, *, needs: int, seed: int, **fields: Any
) -> Mapping[str, record.Source]:
    del seed  # The splits are the published ones.
    builder = prepared.open_builder(
        covid_qu_ex_dataset_builder.Builder,
        variant,
        needs=needs,
        phantoms=phantom_covid_qu_ex,
        **fields,
    )
    return prepared.open_splits(builder)


def _open_covid_only(
    variant: str, *, needs: int, seed: int, **fields: Any
) -> Mapping[str, record.Source]:
    splits = _open_covid_qu_ex(variant, needs=needs, seed=seed, **fields)
    return {
        split: derived.Subset(
            source, [i for i, group in enumerate(source.groups()) if group == prepared.COVID]
        )
        for split, source in splits.items()
    }


def _open_cxr_lungs(
    variant: str,
    *,
    needs: int,
    seed: int,
    raw_dir_montgomery: str,
    raw_dir_shenzhen: str,
    validation_fraction: float,
    test_fraction: float,
    **fields: Any,
) -> Mapping[str, record.Source]:
    """Montgomery and Shenzhen together, split by patient; each in its own share."""
    parts = (
        (
            montgomery_cxr_dataset_builder,
            phantom_montgomery,
            raw_dir_montgomery,
            "raw_dir_montgomery",
        ),
        (shenzhen_cxr_dataset_builder, phantom_shenzhen, raw_dir_shenzhen, "raw_dir_shenzhen"),
    )
    sources = [
        prepared.PreparedSource(
            prepared.open_builder(
                module.Builder,
                variant,
                needs=needs,
                phantoms=phantoms,
                raw_dir=raw_dir,
                raw_field=raw_field,
                **fields,
            ),
            "full",
        )
        for module, phantoms, raw_dir, raw_field in parts
    ]
    group_of = {
        patient: str(part) for part, source in enumerate(sources) for _, patient in source.people()
    }
    split_of = patient_split.draw_within(
        group_of,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        seed=seed,
    )
    return _divide(derived.Joined(sources), split_of)


def _open_v7(
    variant: str,
    *,
    needs: int,
    seed: int,
    protocol: str,
    held_out_fraction: float,
    max_train_per_class: int,
    **fields: Any,
) -> Mapping[str, record.Source]:
    """V7's X-rays; both classes are split by themselves, by patient.

    The held-out patients of both classes are the test split, and those with COVID-19 the validation
    split, as Zhang's of lungs, section 4.2 (protocol "paper"); or all are both, as Zhang's of
    diagnosis ("paper_both": the paper has no other images); or half are the one, half the other
    ("halves").
    """
    if protocol not in V7_PROTOCOLS:
        raise ValueError(f"data.protocol: got {protocol!r}, want one of {', '.join(V7_PROTOCOLS)}.")
    builder = prepared.open_builder(
        v7_covid_cxr_dataset_builder.Builder,
        variant,
        needs=needs,
        phantoms=phantom_v7,
        **fields,
    )
    source = prepared.PreparedSource(builder, "full")
    groups = source.groups()
    if protocol == "paper" and prepared.COVID not in groups:
        raise ValueError(
            f"data.protocol: got {protocol!r}, which validates on patients with {prepared.COVID}, "
            f"but these annotations have no diagnoses of it ({builder.data_path}); use "
            "--config.data.protocol=halves."
        )
    # A person with both kinds of image counts as having COVID-19.
    group_of: dict[str, str] = {}
    for (_, patient), group in zip(source.people(), groups, strict=True):
        if group_of.get(patient) != prepared.COVID:
            group_of[patient] = group
    split_of = patient_split.draw_within(
        group_of,
        validation_fraction=held_out_fraction / 2,
        test_fraction=held_out_fraction / 2,
        seed=seed,
    )
    indices = _indices_of(source, split_of)
    if protocol != "halves":
        held_out = sorted(indices["validation"] + indices["test"])
        covid = [i for i in held_out if groups[i] == prepared.COVID]
        indices |= {"validation": covid if protocol == "paper" else held_out, "test": held_out}
    image_ids = [image_id for image_id, _ in source.people()]
    trained = {image_ids[i]: groups[i] for i in indices["train"]}
    drawn = patient_split.draw_at_most(trained, max_train_per_class, seed)
    indices["train"] = [i for i in indices["train"] if image_ids[i] in drawn]
    for split, own in indices.items():
        counts = collections.Counter(groups[i] for i in own)
        told = ", ".join(f"{count:,} {group}" for group, count in sorted(counts.items()))
        logging.info("%s: %s", split, told)
    return {split: derived.Subset(source, own) for split, own in indices.items()}


def _open_covid19_ct(
    variant: str,
    *,
    needs: int,
    seed: int,
    num_validation: int,
    num_test: int,
    fold: int,
    folds: int,
    **fields: Any,
) -> Mapping[str, record.Source]:
    """CT volumes, split by patient: so many of each, or one fold of a cross-validation.

    Every split has its share of both sources.
    """
    patient_split.require_fold(fold, folds)
    builder = prepared.open_builder(
        covid19_ct_seg_dataset_builder.Builder,
        variant,
        needs=needs,
        phantoms=phantom_covid19_ct,
        **fields,
    )
    source = prepared_ct.PreparedVolumes(builder, "full")
    people = [patient for _, patient in source.people()]
    num_of = collections.Counter(people)
    group_of = dict(zip(people, source.groups(), strict=True))
    patients = {who: patient_split.Patient(num_of[who], group_of[who]) for who in num_of}
    draw = functools.partial(
        patient_split.draw_fold if folds else patient_split.draw_counts,
        patients,
        num_validation=num_validation,
        seed=seed,
    )
    split_of = draw(fold=fold, folds=folds) if folds else draw(num_test=num_test)
    return _divide(source, split_of)


def _divide(source: record.Source, split_of: Mapping[str, str]) -> dict[str, record.Source]:
    """The source in splits, from patient_id -> split."""
    indices = _indices_of(source, split_of)
    return {split: derived.Subset(source, own) for split, own in indices.items()}


def _indices_of(source: record.Source, split_of: Mapping[str, str]) -> dict[str, list[int]]:
    """The records of each split, from patient_id -> split."""
    people = source.people()
    return {
        split: [i for i, (_, patient) in enumerate(people) if split_of[patient] == split]
        for split in run_files.SPLITS
    }


DATASETS: dict[str, Callable[..., Mapping[str, record.Source]]] = {
    "covid19_ct_seg": _open_covid19_ct,
    "covid_qu_ex": _open_covid_qu_ex,
    "covid_qu_ex_covid_only": _open_covid_only,
    "cxr_lungs": _open_cxr_lungs,
    "folder": _open_folder,
    "v7_covid_cxr": _open_v7,
}
