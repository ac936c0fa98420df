"""All datasets by name; a new one is a file in this folder and one line in `DATASETS`."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxlung.config import config_arg
from jaxlung.data import record
from jaxlung.data.sources import (
    covid19_ct_seg,
    covid_qu_ex,
    cxr_lungs,
    dataset,
    folder,
    preparing,
    v7_covid_cxr,
)

DATASETS = {
    "covid19_ct_seg": covid19_ct_seg.DATASET,
    "covid_qu_ex": covid_qu_ex.DATASET,
    "covid_qu_ex_covid_only": covid_qu_ex.COVID_ONLY,
    "cxr_lungs": cxr_lungs.DATASET,
    "folder": folder.DATASET,
    "v7_covid_cxr": v7_covid_cxr.DATASET,
}


def open_splits(
    fields: Mapping[str, Any], *, needs: int, seed: int, may_prepare: bool = True
) -> dataset.Splits:
    """Opens the dataset that a config's `data` section names.

    Args:
        fields: "name" ("covid_qu_ex/infection", "cxr_lungs/512"), and the dataset's own fields.
        needs: bits of `record` that the task must find annotated.
        seed: seed of splits that are drawn.
        may_prepare: True if missing data may be prepared, generated or downloaded.

    Returns:
        "train", "validation" and "test".

    Raises:
        ValueError: an unknown name, no such fold, data that can't be used, or missing annotations.
        FileNotFoundError: the data are missing; says where to get them and where to put them.
    """
    found, variant = _find(fields["name"])
    if "folds" in fields:
        config_arg.require_fold(fields["fold"], fields["folds"])
    own = {name: value for name, value in fields.items() if name != "name"}
    if found.parts:
        own["may_prepare"] = may_prepare
    return found.open_splits(variant, needs=needs, seed=seed, **own)


def may_lack(fields: Mapping[str, Any], needs: int) -> Callable[[str], bool]:
    """Returns a function that tells whether a group of records may show no foreground at all.

    In a user's own folders these are the groups that are declared negative. In other datasets
    every group may show none, unless the task looks for lungs, which everybody has.

    Args:
        fields: as for `open_splits`.
        needs: bits of `record` that the task looks for.
    """
    found, _ = _find(fields["name"])
    if found.negative_groups:
        return found.negative_groups(fields).__contains__
    return lambda group: needs != record.LUNG


def is_prepared(fields: Mapping[str, Any]) -> bool:
    """Tells whether a dataset can be opened at once: prepared, or a user's own files.

    Args:
        fields: a config's `data` section.
    """
    found, variant = _find(fields["name"])
    if not found.parts:
        return bool(fields["root"] or fields["csv"])
    places = (
        part.place(fields["data_dir"], variant, fields["phantom_images"]) for part in found.parts
    )
    return all(map(preparing.is_made, places))


def describe(name: str) -> list[str]:
    """Returns a text of Markdown, ending with the licence, for each download behind a dataset.

    Args:
        name: a config's `data.name`. Unknown names, and a user's own files, have no text.
    """
    found = DATASETS.get(name.partition("/")[0])
    return [part.about() for part in found.parts] if found else []


def _find(name: str) -> tuple[dataset.Dataset, str]:
    """Returns the dataset of a `data.name`, and the variant after the slash."""
    key, _, variant = name.partition("/")
    if key not in DATASETS:
        raise ValueError(f"data.name: got {key!r}, want one of {', '.join(DATASETS)}.")
    return DATASETS[key], variant
