"""Finds the CTs and masks in a COVID-19-CT-Seg download.

Zenodo has four zips of .nii.gz files that are named by their case. Kaggle has four folders of .nii
files, in which a CT and its masks have different names. Files are joined by the case in their
names, never by their order.
"""

import collections
import dataclasses
import pathlib
import re

from absl import logging

from tfds_builders import raw_tree

WANTED = (
    "COVID-19-CT-Seg (folders or zips like COVID-19-CT-Seg_20cases and Lung_Mask, or Kaggle's "
    "ct_scans and lung_mask, with .nii or .nii.gz)"
)
SOURCES = ("coronacases", "radiopaedia")
PUBLISHED = 20

_KIND = re.compile(
    r"(?:^|/)(COVID-19-CT-Seg_20cases|ct_scans?|lung_and_infection_mask|lung_mask|infection_mask)"
    r"(?: \(\d+\))?(?:\.zip)?(?=/)",  # A browser's second download: "Lung_Mask (1).zip".
    re.IGNORECASE,
)
_CORONACASES = re.compile(r"(?:coronacases[_a-z]*|case)(\d{3})", re.IGNORECASE)
# Not \D before the number: Kaggle's names have "covid-19" there.
_RADIOPAEDIA = re.compile(r"radiopaedia.*?((\d+)_\d+_\d+)", re.IGNORECASE)

_MASKS = ("lung mask", "infection mask", "lung and infection mask")

Files = dict[str, dict[str, str]]  # Names in a tree, by kind and then by case.


@dataclasses.dataclass(frozen=True)
class Sample:
    """Files of one case, with a mask of its lungs and a mask of its infection.

    Attributes:
        case_id: "coronacases_001" or "radiopaedia_10_85902_1"; unique.
        patient_id: name of the person: "coronacases_001", "radiopaedia_10".
        ct: name of the CT in the tree.
        lung_mask: name of the mask of lungs in the tree, or None.
        infection_mask: name of the mask of infection in the tree, or None.
        both_mask: name of the mask of lungs and infection in the tree, or None.
    """

    case_id: str
    patient_id: str
    ct: str
    lung_mask: str | None
    infection_mask: str | None
    both_mask: str | None

    @property
    def source(self) -> str:
        """Origin of the CT, one of `SOURCES`."""
        return self.case_id.partition("_")[0]


def open_tree(place: str | pathlib.Path) -> raw_tree.RawTree:
    """Opens a zip, or a folder in which zips count as folders: `Lung_Mask.zip/x.nii.gz`.

    Raises:
        ValueError: there is no such place, or no CT of this dataset, or a damaged zip.
    """
    return raw_tree.find_with_zips(place, has_cts, WANTED)


def has_cts(tree: raw_tree.RawTree) -> bool:
    """Tells whether the tree has any CT of the dataset."""
    return any(_kind(name) == "CT" and case_of(name) for name in _volumes(tree))


def find_samples(tree: raw_tree.RawTree) -> list[Sample]:
    """Joins CTs and masks by case, and warns of another number than the published one.

    A file that is present several times (packed and unpacked, downloaded twice, or in a copy of
    the tree inside it) is taken once.

    Returns:
        Samples ordered by source, then by the numbers of the case.

    Raises:
        ValueError: two different files for one mask or CT of a case, a CT without a mask of its
            lungs or of its infection, or a mask without a CT.
    """
    files = _files_by_kind(tree)
    _require_paired(files, tree.where)
    samples = [
        Sample(case_id, patient_of(case_id), name, *(files[kind].get(case_id) for kind in _MASKS))
        for case_id, name in sorted(files["CT"].items(), key=lambda item: _order(item[0]))
    ]
    sources = collections.Counter(sample.source for sample in samples)
    logging.info("%s: %d CTs, %s", tree.where, len(samples), dict(sources))
    if len(samples) != PUBLISHED:
        logging.warning("%s: %d CTs, unlike the published %d", tree.where, len(samples), PUBLISHED)
    return samples


def case_of(name: str) -> str | None:
    """Returns the case in a file's name, in Zenodo's or Kaggle's spelling; None if there is none.

    "radiopaedia_org_covid-19-pneumonia-10_85902_1-dcm.nii" names "radiopaedia_10_85902_1".
    """
    file = name.rpartition("/")[2]
    if match := _RADIOPAEDIA.search(file):
        return f"radiopaedia_{match[1]}"
    if match := _CORONACASES.search(file):
        return f"coronacases_{match[1]}"
    return None


def patient_of(case_id: str) -> str:
    """Returns the person of a case; for Radiopaedia, the first number alone.

    10_85902_1 and 10_85902_3 are of one person. The authors count 29_86490_1 and 29_86491_1 as two
    people, though Radiopaedia gave them one number. Kept together, they can't leak between splits
    (our choice).
    """
    match = _RADIOPAEDIA.search(case_id)
    return f"radiopaedia_{match[2]}" if match else case_id


def _kind(name: str) -> str | None:
    """Returns one of `_MASKS` or "CT", by the innermost folder or zip that names a kind."""
    found = _KIND.findall(name)
    if not found:
        return None
    kind = found[-1].lower().replace("_", " ")
    return kind if kind in _MASKS else "CT"


def _volumes(tree: raw_tree.RawTree) -> list[str]:
    """Returns the names of NIfTI files."""
    return tree.visible((".nii", ".nii.gz"))


def _files_by_kind(tree: raw_tree.RawTree) -> Files:
    files: Files = {kind: {} for kind in ("CT", *_MASKS)}
    unnamed = []
    for name in _volumes(tree):
        kind, case_id = _kind(name), case_of(name)
        if kind is None:
            continue
        if case_id is None:
            unnamed.append(name)
            continue
        known = files[kind].get(case_id)
        files[kind][case_id] = name if known is None else _one_of(known, name, kind, tree.where)
    if unnamed:
        logging.warning(
            "%s: %s names no case and is left out (%d in all).",
            tree.where,
            unnamed[0],
            len(unnamed),
        )
    return files


def _one_of(known: str, other: str, kind: str, where: str) -> str:
    """Returns one of two names of the same file: the unpacked one, then the less deep one."""

    def unpacked(name: str) -> str:
        return re.sub(r"( \(\d+\))?(\.zip)?/", "/", name, flags=re.IGNORECASE)

    shorter, longer = sorted((unpacked(known), unpacked(other)), key=len)
    if not f"/{longer}".endswith(f"/{shorter}"):
        raise ValueError(
            f"{where}: want one {kind} for {case_of(known)}, found {known} and {other}."
        )
    return min(known, other, key=lambda name: (".zip/" in name.lower(), len(name)))


def _require_paired(files: Files, where: str) -> None:
    cts, both = files["CT"], files["lung and infection mask"]
    for kind in _MASKS:
        if orphans := sorted(files[kind].keys() - cts.keys()):
            name = files[kind][orphans[0]]
            raise ValueError(f"{where}: {name} is a mask without a CT ({len(orphans)} in all).")
    for kind in ("lung mask", "infection mask"):
        if unmasked := sorted(cts.keys() - files[kind].keys() - both.keys()):
            name = cts[unmasked[0]]
            raise ValueError(f"{where}: {name} has no {kind} ({len(unmasked)} in all).")


def _order(case_id: str) -> tuple[str, list[int]]:
    return case_id.partition("_")[0], [int(number) for number in re.findall(r"\d+", case_id)]
