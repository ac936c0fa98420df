"""Raw outputs of every run of a study for the same few test images."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxlung import job
from jaxlung.data.feed import pipeline
from jaxlung.study import results
from jaxlung.training import system, trained
from jaxlung.training.inference import images as image_inference


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The outputs of R runs for K test images.

    Attributes:
        wanted: Numbers of the images that the study asks for, counted from 1.
        numbers: [K] numbers of the images that are shown, counted from 1.
        num_images: Number of images in the test split.
        image_ids: K ids.
        images: [K, S, S] uint8.
        targets: [K, S, S] uint8 grey levels of the annotation.
        labels: R labels of rows of the table.
        probs: [R, K, S, S] float32 in [0, 1].
    """

    wanted: tuple[int, ...]
    numbers: tuple[int, ...]
    num_images: int
    image_ids: tuple[str, ...]
    images: np.ndarray
    targets: np.ndarray
    labels: tuple[str, ...]
    probs: np.ndarray


def choose(wanted: Sequence[int], num_images: int) -> tuple[int, ...]:
    """Returns the images to show: those wanted, or as many at even distances in a small split.

    Args:
        wanted: Numbers of images, counted from 1.
        num_images: Number of images in the split.

    Returns:
        Numbers of images, counted from 1, without duplicates.
    """
    if max(wanted) <= num_images:
        return tuple(dict.fromkeys(wanted))
    places = (np.arange(len(wanted)) + 0.5) * num_images / len(wanted)
    return tuple(dict.fromkeys((places.astype(int) + 1).tolist()))


def collect(wanted: tuple[int, ...], found: Sequence[results.Result]) -> Outputs:
    """Predicts the images with the selected checkpoint of every run.

    Raises:
        ValueError: a run has no maps to show, or the runs differ in test split or image size.
    """
    numbers = choose(wanted, found[0].summary.num_images)
    parts = [_predict(result, numbers) for result in found]
    first = parts[0]
    for result, part in zip(found, parts, strict=True):
        if not all(np.array_equal(part[key], first[key]) for key in ("image", "levels")):
            raise ValueError(
                f"study: the test images of run {result.run.name} differ from the first run's."
            )
    greys = np.array(system.make_task(found[0].config).greys, np.uint8)
    return Outputs(
        wanted=wanted,
        numbers=numbers,
        num_images=found[0].summary.num_images,
        image_ids=tuple(first["image_id"].tolist()),
        images=first["image"],
        targets=greys[first["levels"]],
        labels=tuple(result.run.label for result in found),
        probs=np.stack([part["probs"] for part in parts]),
    )


def _predict(result: results.Result, numbers: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns "image_id" [K] str, and "image", "levels" and "probs", [K, S, S] each."""
    if not system.make_task(result.config).is_map:
        raise ValueError(
            f"study: run {result.run.name} has no output for each pixel, so images can't be shown."
        )
    source = job.open_splits(result.config, result.path)["test"]
    if len(source) < max(numbers):
        raise ValueError(
            f"study: the test split of run {result.run.name} differs from the first run's."
        )
    run = trained.open_run(result.path, result.config)
    settings = run.system.settings
    feed = pipeline.open_feed(source, settings, run.system.shardings, "test")
    places = [number - 1 for number in numbers]
    places += places[-1:] * (-len(places) % settings.eval_batch_size)  # Fills the last batch.
    outputs = image_inference.predict(run.system, run.state, feed, places.__getitem__, len(numbers))
    rows = list(outputs)
    arrays = {key: np.stack([row[key] for row in rows]) for key in ("image", "levels", "probs")}
    return arrays | {"image_id": np.array([source[number - 1].image_id for number in numbers])}
