"""Joins images with annotations, and selects the frontal X-rays with lungs."""

import collections
import dataclasses
import pathlib

from absl import logging

from tfds_builders import raw_tree
from tfds_builders.v7_covid_cxr import annotation, sources, tags


@dataclasses.dataclass(frozen=True)
class Sample:
    """A frontal X-ray with lungs.

    Attributes:
        annotation: annotation of the image, with lungs.
        image: name of the image in the tree.
        facts: facts from the image's tags.
        patient_id: name of the person, never "".
    """

    annotation: annotation.Annotation
    image: str
    facts: tags.Facts
    patient_id: str


def find_samples(tree: raw_tree.RawTree) -> list[Sample]:
    """Joins images and annotations, and logs how many are left out and why.

    Args:
        tree: the download.

    Returns:
        The frontal X-rays with lungs, sorted by image id.

    Raises:
        ValueError: a damaged annotation, two annotations of one image, or no annotation has its
            image.
    """
    annotations = sources.read_annotations(tree)
    _require_unique(annotations, tree.where)
    images = _Images(tree)
    left_out: collections.Counter[str] = collections.Counter()
    absent, samples = [], []
    for item in annotations:
        facts = tags.read(item.tags)
        if reason := _why_left_out(item, facts):
            left_out[reason] += 1
        elif image := images.find(item):
            samples.append(_make_sample(item, image, facts))
        else:
            left_out["without an image file"] += 1
            absent.append(item)
    if not samples:
        _refuse_empty(tree.where, absent, left_out)
    _report(tree.where, samples, left_out)
    _report_unknown_tags(tree.where, annotations)
    return sorted(samples, key=lambda sample: sample.annotation.image_id)


class _Images:
    """A finder of images by name, or by stem, because people convert the files."""

    def __init__(self, tree: raw_tree.RawTree) -> None:
        self._tree = tree
        self._by_name: dict[str, list[str]] = collections.defaultdict(list)
        for name in sources.image_names(tree):
            path = pathlib.PurePosixPath(name)
            self._by_name[path.name].append(name)
            self._by_name[path.stem].append(name)

    def find(self, item: annotation.Annotation) -> str | None:
        stems = [pathlib.PurePosixPath(name).stem for name in item.file_names]
        for name in (*item.file_names, item.image_id, *stems):
            if found := self._by_name.get(name):
                self._require_same(found, item)
                return found[0]
        return None

    def _require_same(self, found: list[str], item: annotation.Annotation) -> None:
        """Raises ValueError if files of one name differ; copies of one file are harmless."""
        if len(found) > 1 and len({self._tree.read(name) for name in found}) > 1:
            raise ValueError(
                f"{self._tree.where}: {item.name}: want one image, "
                f"found {found[0]} and {found[1]}, which differ."
            )


def _make_sample(item: annotation.Annotation, image: str, facts: tags.Facts) -> Sample:
    names = (*item.file_names, pathlib.PurePosixPath(image).name)
    return Sample(item, image, facts, tags.patient_id(facts.patient, item.image_id, names))


def _require_unique(annotations: list[annotation.Annotation], where: str) -> None:
    names: dict[str, str] = {}
    for item in annotations:
        if item.image_id in names and item.name == names[item.image_id]:
            raise ValueError(f"{where}: {item.name} has image {item.image_id} twice.")
        if item.image_id in names:
            first = names[item.image_id]
            raise ValueError(f"{where}: {first} and {item.name} are both of image {item.image_id}.")
        names[item.image_id] = item.name


def _why_left_out(item: annotation.Annotation, facts: tags.Facts) -> str | None:
    if facts.modality == "CT":
        return "CT"
    if not facts.is_frontal:
        return "not frontal"
    return None if item.has_lungs else "without lungs"


def _refuse_empty(
    where: str, absent: list[annotation.Annotation], left_out: collections.Counter
) -> None:
    if not absent:
        raise ValueError(f"{where}: want frontal X-rays with lungs, found only {dict(left_out)}.")
    wanted = " or ".join((*absent[0].file_names, f"{absent[0].image_id}.*"))
    raise ValueError(
        f"{where}: none of {len(absent)} annotations has its image ({absent[0].name} wants "
        f"{wanted}); {sources.IMAGES_FROM}, and put them anywhere below that folder."
    )


def _report(where: str, samples: list[Sample], left_out: collections.Counter) -> None:
    logging.info(
        "%s: %d frontal X-rays with lungs, %d of them %s; left out: %s",
        where,
        len(samples),
        sum(sample.facts.label == tags.COVID_19 for sample in samples),
        tags.COVID_19,
        ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items())) or "none",
    )


def _report_unknown_tags(where: str, annotations: list[annotation.Annotation]) -> None:
    unknown = tags.count_unknown(name for item in annotations for name in item.tags)
    if unknown:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in unknown.most_common())
        logging.info("%s: tags of unknown kinds, not used: %s", where, kinds)
