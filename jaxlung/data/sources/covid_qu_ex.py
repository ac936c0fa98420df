"""COVID-QU-Ex (Tahir et al., 2021): X-rays in the published splits."""

from typing import Any

from jaxlung.config import run_files
from jaxlung.data.sources import dataset, derived, prepared
from tfds_builders.covid_qu_ex import covid_qu_ex_dataset_builder
from tfds_builders.phantoms import covid_qu_ex as phantoms

PART = dataset.Part(covid_qu_ex_dataset_builder.Builder, phantoms)


def open_splits(
    variant: str, *, needs: int, seed: int, **fields: Any
) -> dict[str, prepared.PreparedImages]:
    """Opens the published splits.

    Args:
        variant: "infection" or "lung", the part of the data.
        needs: see `dataset.Dataset`.
        seed: not used, as no split is drawn.
        **fields: see `dataset.Part.open`.
    """
    del seed
    builder = PART.open(variant, needs=needs, **fields)
    return {split: prepared.PreparedImages(builder, split) for split in run_files.SPLITS}


def open_covid_only(variant: str, *, needs: int, seed: int, **fields: Any) -> dataset.Splits:
    """Opens the published splits without the images of patients who have no COVID-19."""
    splits = open_splits(variant, needs=needs, seed=seed, **fields)
    return {
        split: derived.Subset(
            source, [i for i, group in enumerate(source.groups()) if group == prepared.COVID]
        )
        for split, source in splits.items()
    }


DATASET = dataset.Dataset(open_splits, (PART,))
COVID_ONLY = dataset.Dataset(open_covid_only, (PART,))
