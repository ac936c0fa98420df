"""The images and slices that a report shows, as arrays in .npz files from which it draws them."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath

from jaxlung.data import record
from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.transforms import resize
from jaxlung.host import files
from jaxlung.metrics import overlap
from jaxlung.training import system as system_lib
from jaxlung.training import train_step
from jaxlung.training.inference import images as image_inference
from jaxlung.volume import hounsfield

PLANES = ("axial", "coronal", "sagittal")  # Perpendicular to D, H, W.
SHOWN_HU = (-1250.0, 250.0)  # the window in which lungs and their disease show


def choose(ranks: np.ndarray) -> list[tuple[str, int]]:
    """Chooses the best, median and worst images by score: two each, or one each of fewer than six.

    Args:
        ranks: [N] float64, higher is better.

    Returns:
        ("best" | "median" | "worst", index) in that order, no image twice.
    """
    from_best = np.argsort(-ranks, kind="stable").tolist()
    each = 2 if len(from_best) >= 6 else 1
    middle = (len(from_best) - each) // 2
    wanted = (
        [("best", i) for i in from_best[:each]]
        + [("median", i) for i in from_best[middle : middle + each]]
        + [("worst", i) for i in from_best[-each:]]
    )
    return list({index: (kind, index) for kind, index in wanted}.values())


def write(
    path: epath.Path,
    system: system_lib.System,
    state: train_step.TrainState,
    feed: feed_lib.Feed,
    image_ids: np.ndarray,
    ranks: np.ndarray,
) -> None:
    """Saves best, median and worst images with the network's output, as `path` (.npz).

    Arrays: "image" [K, S, S] uint8, "raw" [K, S, S] float32 in [0, 1], "pred" and "target"
    [K, S, S] uint8 greys of the levels, "kind", "image_id" [K] str, "score" [K], "score_name".

    Args:
        path: file to write.
        system: what the run's config describes.
        state: the network.
        feed: feed of the split.
        image_ids: [N] str, in the order of the feed.
        ranks: [N] float64, the score of every image; higher is better.
    """
    chosen = choose(ranks)
    indices = [index for _, index in chosen]
    outputs = list(
        image_inference.predict(
            system, state, feed, lambda p: indices[min(p, len(indices) - 1)], len(indices)
        )
    )
    greys = np.array(system.task.greys, np.uint8)
    arrays = {
        "image": np.stack([output["image"] for output in outputs]),
        "raw": np.stack([output["probs"] for output in outputs]),
        "pred": greys[np.stack([output["preds"] for output in outputs])],
        "target": greys[np.stack([output["levels"] for output in outputs])],
        "kind": np.array([kind for kind, _ in chosen]),
        "image_id": image_ids[indices],
        "score": ranks[indices],
        "score_name": np.array(system.task.rank_by),
    }
    _write_npz(path, arrays)


def write_seen(
    path: epath.Path, system: system_lib.System, source: record.Source, is_positive: np.ndarray
) -> None:
    """Saves an image of each class beside what the network sees of it, as `path` (.npz).

    Arrays: "image" [K, S, S] uint8, "seen" [K, H, W] float32 in [0, 1], "kind" and "image_id" [K]
    str; K is 1 if there is only one class.

    Args:
        path: file to write.
        system: what the run's config describes.
        source: the split.
        is_positive: [N] bool, the class of every image.
    """
    settings = system.image_settings
    levels, (_, indices) = system.task.levels, np.unique(is_positive, return_index=True)
    items = [source[index] for index in indices.tolist()]
    fitted = [
        resize.fit(item.image, item.mask, settings.image_size, settings.resize) for item in items
    ]
    images, masks = (np.stack(arrays) for arrays in zip(*fitted, strict=True))
    scaled = system.step.scale(jnp.asarray(images))
    seen = np.asarray(system.task.inputs(scaled, jnp.asarray(masks)))
    arrays = {
        "image": images,
        "seen": seen[..., 0],
        "kind": np.array([levels[int(is_positive[index])] for index in indices]),
        "image_id": np.array([item.image_id for item in items]),
    }
    _write_npz(path, arrays)


def cut_planes(
    item: record.VolumeRecord, preds: np.ndarray, levels: np.ndarray, confusion: np.ndarray
) -> dict[str, Any]:
    """Cuts the slice of each plane with most annotated voxels.

    Without any, most predicted voxels or, without those, most voxels of lung decide. Coronal and
    sagittal slices have the patient's head at the top.

    Args:
        item: the volume.
        preds: [D, H, W] bool.
        levels: [D, H, W] bool, the annotation.
        confusion: [2, 2] confusion matrix of `levels` and `preds`.

    Returns:
        "image_id", "dice" and for each plane "<plane>_image" [., .] uint8, "<plane>_pred" and
        "<plane>_target" [., .] bool, "<plane>_index" of the slice, and "<plane>_aspect", height
        over width of a pixel.
    """
    arrays: dict[str, Any] = {
        "image_id": item.image_id,
        "dice": overlap.binary_scores(confusion)["dice"],
    }
    sought = next(
        (mask for mask in (levels, preds, item.mask & record.LUNG != 0) if mask.any()), levels
    )
    for axis, plane in enumerate(PLANES):
        others = tuple(other for other in range(3) if other != axis)
        index = int(sought.sum(axis=others).argmax())
        tall, wide = (item.spacing_mm[other] for other in others)

        def take(array: np.ndarray, axis: int = axis, index: int = index) -> np.ndarray:
            plane = array.take(index, axis=axis)
            return plane if axis == 0 else plane[::-1]  # Slices grow upwards.

        shown = hounsfield.scale(take(item.image), SHOWN_HU)
        arrays |= {
            f"{plane}_image": np.rint(255 * shown).astype(np.uint8),
            f"{plane}_pred": take(preds),
            f"{plane}_target": take(levels),
            f"{plane}_index": index,
            f"{plane}_aspect": tall / wide,
        }
    return arrays


def write_planes(path: epath.Path, drawn: Sequence[dict[str, Any]]) -> None:
    """Saves the planes of several volumes as `path` (.npz), keys "<number>_<name>"."""
    arrays = {f"{i}_{name}": value for i, each in enumerate(drawn) for name, value in each.items()}
    _write_npz(path, arrays)


def _write_npz(path: epath.Path, arrays: Mapping[str, Any]) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    files.write_bytes(path, content.getvalue())
