"""The Montgomery and Shenzhen X-rays (Jaeger et al., 2014) as one dataset with lung masks."""

from typing import Any

from jaxlung.data.sources import dataset, derived, prepared
from jaxlung.data.splits import patient_split
from tfds_builders.montgomery_cxr import montgomery_cxr_dataset_builder
from tfds_builders.phantoms import montgomery_cxr as phantom_montgomery
from tfds_builders.phantoms import shenzhen_cxr as phantom_shenzhen
from tfds_builders.shenzhen_cxr import shenzhen_cxr_dataset_builder

MONTGOMERY = dataset.Part(
    montgomery_cxr_dataset_builder.Builder, phantom_montgomery, "raw_dir_montgomery"
)
SHENZHEN = dataset.Part(shenzhen_cxr_dataset_builder.Builder, phantom_shenzhen, "raw_dir_shenzhen")


def open_splits(
    variant: str,
    *,
    needs: int,
    seed: int,
    raw_dir_montgomery: str,
    raw_dir_shenzhen: str,
    validation_fraction: float,
    test_fraction: float,
    fold: int,
    folds: int,
    **fields: Any,
) -> dataset.Splits:
    """Opens both datasets and splits each by patient, so that every split has its share of both.

    Args:
        variant: size that images are stored at: "512", "1024" or "native".
        needs: see `dataset.Dataset`.
        seed: seed of the splits, one for all folds.
        raw_dir_montgomery: path of the Montgomery download, or "".
        raw_dir_shenzhen: path of the Shenzhen download, or "".
        validation_fraction: share of the patients, in (0, 1).
        test_fraction: share of the patients, in (0, 1); unused with `folds`.
        fold: index of the fold of a cross-validation that is tested, from 0.
        folds: number of folds, 2 or more; 0 for no cross-validation.
        **fields: see `dataset.Part.open`.
    """
    raw_dirs = {MONTGOMERY: raw_dir_montgomery, SHENZHEN: raw_dir_shenzhen}
    sources = [
        prepared.PreparedImages(part.open(variant, needs=needs, raw_dir=raw_dir, **fields), "full")
        for part, raw_dir in raw_dirs.items()
    ]
    group_of = {
        patient: str(part) for part, source in enumerate(sources) for _, patient in source.people()
    }
    split_of = patient_split.draw_within(
        group_of,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        seed=seed,
        fold=fold,
        folds=folds,
    )
    return derived.divide(derived.Joined(sources), split_of)


DATASET = dataset.Dataset(open_splits, (MONTGOMERY, SHENZHEN))
