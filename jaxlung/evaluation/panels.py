"""Which images a report shows, and the arrays it draws them from."""

import io

import numpy as np
from etils import epath

from jaxlung.data import record
from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.transforms import resize
from jaxlung.host import files
from jaxlung.training import system as system_lib
from jaxlung.training import train_step
from jaxlung.training.inference import images as image_inference


def choose(ranks: np.ndarray) -> list[tuple[str, int]]:
    """Best, median and worst images by score: two of each, or one of each of fewer than six.

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
        path: where to.
        system: the run.
        state: the network.
        feed: to the split.
        image_ids: [N] str.
        ranks: [N] float64, the score of every image.
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
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    files.write_bytes(path, content.getvalue())


def write_seen(
    path: epath.Path, system: system_lib.System, source: record.Source, is_positive: np.ndarray
) -> None:
    """Saves an image of either class beside what the network sees of it, as `path` (.npz).

    Arrays: "image" [K, S, S] uint8, "seen" [K, H, W] float32 in [0, 1], "kind" and "image_id" [K]
    str; K is 1 where there is one class.

    Args:
        path: where to.
        system: the run.
        source: the split.
        is_positive: [N] bool, the class of every image.
    """
    levels, (_, indices) = system.task.levels, np.unique(is_positive, return_index=True)
    items = [source[index] for index in indices.tolist()]
    fitted = [
        resize.fit(item.image, item.mask, system.settings.image_size, system.settings.resize)
        for item in items
    ]
    images, masks = (np.stack(arrays) for arrays in zip(*fitted, strict=True))
    seen = np.asarray(system.task.inputs(system.step.scale(images), masks))
    arrays = {
        "image": images,
        "seen": seen[..., 0],
        "kind": np.array([levels[int(is_positive[index])] for index in indices]),
        "image_id": np.array([item.image_id for item in items]),
    }
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    files.write_bytes(path, content.getvalue())
