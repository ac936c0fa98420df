"""Datasets by name: each opens as three sources; a new one is a builder and one line here."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxlung.data import folder, prepared, record
from tfds_builders.covid_qu_ex import covid_qu_ex_dataset_builder
from tfds_builders.phantoms import covid_qu_ex as phantom_covid_qu_ex


def open_splits(fields: Mapping[str, Any], *, needs: int, seed: int) -> Mapping[str, record.Source]:
    """Opens the dataset that a config's `data` section names.

    Args:
        fields: "name" ("covid_qu_ex/infection", "folder"), and what its opener takes.
        needs: bits of `record` that the task must find annotated.
        seed: of splits that are drawn.

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
    return DATASETS[dataset](variant, needs=needs, seed=seed, **fields)


def _open_folder(
    variant: str, *, needs: int, seed: int, **fields: Any
) -> Mapping[str, record.Source]:
    targets = {bit: target for target, bit in folder.TARGETS.items()}
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
    return prepared.open_splits(
        covid_qu_ex_dataset_builder.Builder,
        variant,
        needs=needs,
        phantoms=phantom_covid_qu_ex,
        **fields,
    )


DATASETS: dict[str, Callable[..., Mapping[str, record.Source]]] = {
    "covid_qu_ex": _open_covid_qu_ex,
    "folder": _open_folder,
}
