"""Lungs that another run's network finds, in place of the annotated ones (paper 003's outlook)."""

import io
import zipfile
import zlib
from collections.abc import Mapping

import ml_collections as mlc
import numpy as np
from absl import logging
from etils import epath

from jaxlung import checkpoint, files, progress, train_step, workdir
from jaxlung import system as system_lib
from jaxlung.data import order, pipeline, predicted, record, splits_file
from jaxlung.inference import images as image_inference


def replace(
    splits: Mapping[str, record.Source], run: str, path: epath.Path
) -> dict[str, record.Source]:
    """The splits with the lungs that a finished run's network finds in their images.

    Masks are kept in `path/lungs_<split>.npz`, so that the work is done once.

    Args:
        splits: records; what they say about lungs is not looked at.
        run: folder of a finished run whose task is one mask of the lungs.
        path: the folder of the run that will use them.

    Raises:
        ValueError: no finished run there, or one that looks for something else.
    """
    run_path = epath.Path(run).expanduser().resolve()
    config = _load_config(run_path)
    system = system_lib.make_system(config)
    state = checkpoint.load_selected(run_path, config.selection, system.abstract_state())
    made_by = f"{run_path}, step {int(state.step)}"
    _warn_of_overlap(run_path, splits)
    return {
        name: predicted.WithLungs(
            source,
            _find(system, state, source, path / f"lungs_{name}.npz", made_by),
            system.settings.resize,
        )
        for name, source in splits.items()
    }


def _load_config(run: epath.Path) -> mlc.ConfigDict:
    if not (run / "finished.txt").exists():
        raise ValueError(
            f"lungs_run: {run} holds no finished run; train one that finds lungs first, with "
            "--config=v7_lungs, and name its folder with --config.lungs_run."
        )
    config = workdir.load_config(run)
    if config.task.get("target") != "lung":
        raise ValueError(f"lungs_run: {run} is a run of task {config.task_name}, want lung masks.")
    return config


def _warn_of_overlap(run: epath.Path, splits: Mapping[str, record.Source]) -> None:
    """The lungs of images that the lung network learned from are better than those of new ones."""
    split_there = splits_file.read(run / "splits.csv")
    for name in ("validation", "test"):
        if name in splits:
            ids = [image_id for image_id, _ in splits[name].people()]
            known = sum(split_there.get(image_id) == "train" for image_id in ids)
            if known:
                logging.warning(
                    "%d of %d %s images trained the lung network of %s; split both alike, with one "
                    "seed",
                    known,
                    len(ids),
                    name,
                    run,
                )


def _load(file: epath.Path, who: list[str]) -> np.ndarray | None:
    """The masks in `file`, [N, S, S] bool; None if absent, damaged or of others than `who`."""
    if not file.exists():
        return None
    try:
        with np.load(io.BytesIO(file.read_bytes())) as content:
            if content["who"].tolist() != who:
                return None
            return np.unpackbits(content["masks"], axis=-1)[..., : content["size"]] > 0
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        logging.warning("%s: damaged (%s); finding the lungs again", file, error)
        return None


def _find(
    system: system_lib.System,
    state: train_step.TrainState,
    source: record.Source,
    file: epath.Path,
    made_by: str,
) -> np.ndarray:
    """[N, S, S] bool; from `file` if it was made from the same images by the same network."""
    who = [made_by, *(image_id for image_id, _ in source.people())]
    kept = _load(file, who)
    if kept is not None:
        return kept
    road = pipeline.open_road(source, system.settings, system.shardings, file.stem)
    everything = order.in_turn(road.num_examples)
    outputs = image_inference.predict(system, state, road, everything, road.num_examples)
    outputs = list(progress.report(outputs, f"finding {file.stem}", "images", road.num_examples))
    masks = np.stack([output["preds"] > 0 for output in outputs])
    dice = np.mean([system.task.image_scores(output["confusion"])["dice"] for output in outputs])
    logging.info("%s: %d images, Dice against the annotation %.4f", file.stem, len(masks), dice)
    content = io.BytesIO()
    packed = np.packbits(masks, axis=-1)
    np.savez_compressed(content, masks=packed, size=masks.shape[-1], who=np.array(who))
    files.write_bytes(file, content.getvalue())
    return masks
