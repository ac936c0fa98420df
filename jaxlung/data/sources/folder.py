"""A user's own images and masks: folders `images/` and `masks/`, or a CSV that names them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlung.config import run_files
from jaxlung.data import record
from jaxlung.data.sources import dataset, folder_csv, folder_tree
from jaxlung.data.splits import patient_split
from jaxlung.image import image_file


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """One split; a `record.Source` that decodes files when asked for them.

    Attributes:
        examples: the files, in order of `image_id`.
        foreground_levels: mask values that mean foreground, or () for binary masks.
        target: a key of `record.BITS`, the bit of a mask that the foreground sets.
    """

    examples: tuple[folder_tree.Example, ...]
    foreground_levels: tuple[int, ...]
    target: str

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.examples)

    def __getitem__(self, index: int) -> record.Record:
        """Decodes the image and the mask at `index`.

        Raises:
            ValueError: a file is damaged, ambiguous as a mask, or of another size.
        """
        example = self.examples[index]
        image = image_file.read_image(example.image_path)
        foreground = image_file.read_mask(example.mask_path, self.foreground_levels)
        _check_sizes(example, image.shape, foreground.shape)
        return record.Record(
            image=image,
            mask=foreground * np.uint8(record.BITS[self.target]),
            image_id=example.image_id,
            patient_id=example.patient_id,
            group=example.group,
        )

    def people(self) -> list[tuple[str, str]]:
        """Returns (image_id, patient_id) of every record, without decoding images."""
        return [(example.image_id, example.patient_id) for example in self.examples]


def open_splits(
    *,
    root: str,
    csv: str,
    csv_image_column: str,
    csv_mask_column: str,
    csv_patient_column: str,
    csv_split_column: str,
    mask_suffix: str,
    foreground_levels: tuple[int, ...],
    target: str,
    patient_pattern: str,
    validation_fraction: float,
    test_fraction: float,
    fold: int,
    folds: int,
    seed: int,
    negative_roots: str,
) -> dict[str, FolderSource]:
    """Finds images and masks, checks names and sizes, and splits them by patient.

    Headers are read here, pixels later. Without `csv`, images and masks are matched by name. With
    `csv`, only the rows whose images lie in `root` are used, or all rows if `root` is "".

    Args:
        root: a folder, or several separated by commas; "" only with `csv`.
        csv: path of a CSV, or "". Paths in it are absolute or relative to its folder.
        csv_image_column: heading of the CSV's column of image paths.
        csv_mask_column: heading of the CSV's column of mask paths.
        csv_patient_column: heading of the CSV's column of patients, or "" for none.
        csv_split_column: heading of the CSV's column of splits, or "" to draw them.
        mask_suffix: text that a mask's name has after the image's name, or ""; not for `csv`.
        foreground_levels: PNG mask values that are foreground; () for binary masks.
        target: "lung" or "infection", the bit that a mask sets.
        patient_pattern: regular expression whose first group, in the file's stem, is the
            patient where no column names one; "" makes every image its own patient.
        validation_fraction: share of the patients, in (0, 1).
        test_fraction: share of the patients, in (0, 1); unused with `folds`.
        fold: index of the fold of a cross-validation that is tested, from 0.
        folds: number of folds, 2 or more; 0 for no cross-validation.
        seed: seed of drawn splits.
        negative_roots: folders of `root` whose masks may all be empty, separated by commas.

    Returns:
        One source per name in `run_files.SPLITS`, none of them empty.

    Raises:
        FileNotFoundError: a folder or file is missing.
        ValueError: settings out of range, files that don't pair, sizes that differ, a file
            that can't be decoded, a patient in two splits, or an empty split.
    """
    _check_settings(root, csv, foreground_levels, target)
    if folds and csv and csv_split_column:
        raise ValueError(
            f"data.folds: got {folds} with data.csv_split_column={csv_split_column!r}; want one of "
            "the two: drawn folds, or the splits of the column."
        )
    csv_path = folder_tree.absolute(csv)
    roots = folder_tree.parse_roots(root, default_base=csv_path.parent)
    negative_groups(root, csv, negative_roots)
    if csv:
        columns = folder_csv.Columns(
            csv_image_column, csv_mask_column, csv_patient_column, csv_split_column
        )
        examples = folder_csv.list_examples(csv_path, columns, roots, patient_pattern)
    else:
        examples = folder_tree.list_examples(
            roots, mask_suffix=mask_suffix, patient_pattern=patient_pattern
        )
    for example in examples:
        _check_headers(example, foreground_levels)
    try:
        if csv and csv_split_column:
            split_of = patient_split.check_given((e.patient_id, e.split) for e in examples)
        elif folds:
            split_of = patient_split.draw_within(
                # The group of a patient's first image.
                {e.patient_id: e.group for e in reversed(examples)},
                validation_fraction=validation_fraction,
                test_fraction=test_fraction,
                seed=seed,
                fold=fold,
                folds=folds,
            )
        else:
            split_of = patient_split.draw(
                (e.patient_id for e in examples),
                validation_fraction=validation_fraction,
                test_fraction=test_fraction,
                seed=seed,
            )
    except ValueError as error:
        raise ValueError(f"{csv or root}: {error}") from error
    examples.sort(key=lambda example: example.image_id)
    return {
        split: FolderSource(
            tuple(e for e in examples if split_of[e.patient_id] == split),
            tuple(foreground_levels),
            target,
        )
        for split in run_files.SPLITS
    }


def negative_groups(root: str, csv: str, negative_roots: str) -> set[str]:
    """Returns the groups of records in folders that are declared to show no foreground.

    Args:
        root: see `open_splits`.
        csv: path of a CSV, or "".
        negative_roots: some of the folders in `root`, separated by commas, or "".

    Raises:
        FileNotFoundError: one of the folders is missing.
        ValueError: one of `negative_roots` is not in `root`.
    """
    base = folder_tree.absolute(csv).parent
    roots = folder_tree.parse_roots(root, default_base=base)
    negative = folder_tree.parse_roots(negative_roots, default_base=base).paths
    for path in negative:
        if path not in roots.paths:
            raise ValueError(f"negative_roots {path}: want folders of data.root, {root!r}.")
    return {roots.group_of(path) for path in negative}


def _check_settings(root: str, csv: str, foreground_levels: tuple[int, ...], target: str) -> None:
    if not (root.strip(" ,") or csv):
        raise ValueError(
            "want a folder with images/ and masks/ (--config.data.root) or a CSV file "
            "(--config.data.csv), got neither."
        )
    if target not in record.BITS:
        raise ValueError(f"target: want one of {', '.join(record.BITS)}, got {target!r}.")
    if any(type(level) is not int or not 0 <= level < 2**16 for level in foreground_levels):
        raise ValueError(
            f"foreground_levels: want whole numbers from 0 to 65535, got {foreground_levels}."
        )


def _check_headers(example: folder_tree.Example, foreground_levels: tuple[int, ...]) -> None:
    image = image_file.read_header(example.image_path)
    mask = image_file.read_header(example.mask_path)
    _check_sizes(example, (image.height, image.width), (mask.height, mask.width))
    if mask.is_lossy:
        image_file.refuse_lossy_levels(example.mask_path, foreground_levels)


def _check_sizes(
    example: folder_tree.Example, image_shape: tuple[int, ...], mask_shape: tuple[int, ...]
) -> None:
    if image_shape != mask_shape:
        raise ValueError(
            f"{example.mask_path}: want the size of {example.image_path}, "
            f"{image_shape[0]} x {image_shape[1]} (height x width), got "
            f"{mask_shape[0]} x {mask_shape[1]}."
        )


def _open_as_dataset(variant: str, *, needs: int, seed: int, **fields: Any) -> dataset.Splits:
    targets = {bit: target for target, bit in record.BITS.items()}
    if variant or needs not in targets:
        raise ValueError(
            "data.name='folder' has one binary mask for each image; "
            "want task_name='mask' and no variant in the name."
        )
    return open_splits(target=targets[needs], seed=seed, **fields)


def _negative_groups_of(fields: Mapping[str, Any]) -> set[str]:
    return negative_groups(fields["root"], fields["csv"], fields["negative_roots"])


DATASET = dataset.Dataset(_open_as_dataset, negative_groups=_negative_groups_of)
