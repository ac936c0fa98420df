"""Finds the images and masks in a COVID-QU-Ex download.

Published as `Infection Segmentation Data/Infection Segmentation Data/Train/COVID-19/images/*.png`
with sibling folders `lung masks` and `infection masks`, and the same under `Lung Segmentation
Data` without `infection masks`. Copies with single folders, underscores or extra parents are
accepted too.
"""

import collections
import dataclasses
import re

from absl import logging

from tfds_builders import raw_tree

SPLITS = ("Train", "Val", "Test")
LABELS = ("COVID-19", "Non-COVID", "Normal")
WANTED = "COVID-QU-Ex (folders like 'Train/COVID-19/images' with PNG files)"

# Number of files per label of LABELS. The source states 1,166 infection test images, a paper 1,164.
PUBLISHED = {
    "infection": {"Train": (1864, 932, 932), "Val": (466, 233, 233), "Test": (583, 292, 291)},
    "lung": {"Train": (7658, 7208, 6849), "Val": (1903, 1802, 1712), "Test": (2395, 2253, 2140)},
}
ACCEPTED_INFECTION_TEST = range(1164, 1167)

_PART = re.compile(r"(infection|lung)[ _-]segmentation", re.IGNORECASE)
_FILE = re.compile(
    r"(?:^|/)(Train|Val|Test)/(COVID-19|Non-COVID|Normal)"
    r"/(images|lung[ _]masks|infection[ _]masks)/((?!\._)[^/]+\.png)$",
    re.IGNORECASE,
)
_SPELLING = {name.lower(): name for name in SPLITS + LABELS}


@dataclasses.dataclass(frozen=True)
class Sample:
    """Files of one image.

    Attributes:
        image_id: split, label and file stem ("Test/COVID-19/covid_1604"), unique.
        label: one of `LABELS`.
        image: name of the image in the tree.
        lung_mask: name of the lung mask in the tree.
        infection_mask: name of the infection mask in the tree, or None if the download has none.
    """

    image_id: str
    label: str
    image: str
    lung_mask: str
    infection_mask: str | None


def is_covid_qu_ex(tree: raw_tree.RawTree) -> bool:
    """Tells whether the tree has any image of COVID-QU-Ex."""
    return any(map(_FILE.search, tree.names))


def find_samples(tree: raw_tree.RawTree, part: str) -> dict[str, list[Sample]]:
    """Joins images and masks by file name, and warns of unexpected counts.

    Args:
        tree: a download.
        part: "infection" or "lung". Files in folders of neither name belong to both.

    Returns:
        Samples by split of `SPLITS`, sorted by label and file name.

    Raises:
        ValueError: the part is absent, a split has no images, an image has no lung mask, a mask
            has no image, or one file is present twice.
    """
    files = _files_by_kind(tree, part)
    _require_paired(files, tree.where)
    samples: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    for key in sorted(files["images"]):
        split, label, name = key
        samples[split].append(
            Sample(
                image_id=f"{split}/{label}/{name.rsplit('.', 1)[0]}",
                label=label,
                image=files["images"][key],
                lung_mask=files["lung masks"][key],
                infection_mask=files["infection masks"].get(key),
            )
        )
    for split, found in samples.items():
        if not found:
            raise ValueError(f"{tree.where}: split {split} of the {part} data has no images.")
    _report_counts(samples, part, tree.where)
    if part == "infection":
        _report_unmarked(samples, tree.where)
    return samples


def _files_by_kind(tree: raw_tree.RawTree, part: str) -> dict[str, dict[tuple, str]]:
    """Returns names in the tree by kind, then by (split, label, file name)."""
    parts = collections.defaultdict(list)
    for name in tree.names:
        if match := _FILE.search(name):
            named = _PART.findall(f"{tree.where}/{name}")
            parts[named[-1].lower() if named else ""].append((match, name))
    if part not in parts and "" not in parts:
        raise ValueError(f"{tree.where}: want the {part} data, found only {', '.join(parts)}.")
    kinds = ("images", "lung masks", "infection masks")
    files: dict[str, dict[tuple, str]] = {kind: {} for kind in kinds}
    for match, name in parts[part] or parts[""]:
        split, label, kind, file = match.groups()
        key = (_SPELLING[split.lower()], _SPELLING[label.lower()], file)
        found = files[kind.lower().replace("_", " ")]
        if key in found:
            raise ValueError(f"{tree.where}: the same file twice, {found[key]} and {name}.")
        found[key] = name
    return files


def _require_paired(files: dict[str, dict[tuple, str]], where: str) -> None:
    images, lungs = files["images"], files["lung masks"]
    for kind in ("lung masks", "infection masks"):
        if orphans := sorted(files[kind].keys() - images.keys()):
            name = files[kind][orphans[0]]
            raise ValueError(f"{where}: {name} is a mask without an image ({len(orphans)} in all).")
    if unmasked := sorted(images.keys() - lungs.keys()):
        name = images[unmasked[0]]
        raise ValueError(f"{where}: {name} has no lung mask ({len(unmasked)} in all).")


def _report_counts(samples: dict[str, list[Sample]], part: str, where: str) -> None:
    """Logs the numbers of images, with a warning if they differ from the published ones."""
    differences = []
    for split, published in PUBLISHED[part].items():
        labels = collections.Counter(sample.label for sample in samples[split])
        logging.info("%s: %s %s: %s", where, part, split, dict(labels))
        if (part, split) == ("infection", "Test") and labels.total() in ACCEPTED_INFECTION_TEST:
            continue
        for label, want in zip(LABELS, published, strict=True):
            if labels[label] != want:
                differences.append(f"{split}/{label} {labels[label]} ({want})")
    if differences:
        counts = ", ".join(differences)
        logging.warning("%s: %s images, unlike the (published) counts: %s", where, part, counts)


def _report_unmarked(samples: dict[str, list[Sample]], where: str) -> None:
    covid = [s for split in samples.values() for s in split if s.label == "COVID-19"]
    unmarked = [sample for sample in covid if sample.infection_mask is None]
    if unmarked:
        logging.warning(
            "%s: %d of %d COVID-19 images have no infection mask and count as free of infection, "
            "first %s.",
            where,
            len(unmarked),
            len(covid),
            unmarked[0].image,
        )
