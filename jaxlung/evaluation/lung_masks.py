"""Replaces annotated lungs by those that another run's network finds (Zhang, section 6)."""

import dataclasses
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping

import ml_collections as mlc
import numpy as np
from absl import logging
from etils import epath

from jaxlung.config import config_file, run_files, workdir
from jaxlung.data import record
from jaxlung.data.feed import order, pipeline
from jaxlung.data.sources import derived
from jaxlung.data.splits import splits_file
from jaxlung.host import files, progress
from jaxlung.training import checkpoint, train_step, trained
from jaxlung.training import system as system_lib
from jaxlung.training.inference import images as image_inference


@dataclasses.dataclass(frozen=True)
class Lungs:
    """Lungs found in the images of a split.

    Attributes:
        masks: [N, S, S] bool.
        resize: method that brought the images to S x S, a key of `resize.RESIZES`.
        made_by: digest of the network that found them.
    """

    masks: np.ndarray
    resize: str
    made_by: str


def require_run(run: str, path: epath.Path, data: mlc.ConfigDict) -> None:
    """Checks that `replace` will find what it needs, before any data are read.

    Args:
        run: folder of the run that finds lungs.
        path: folder of the run that will use the lungs; if it keeps them already, `run` isn't
            needed.
        data: section `data` of the run that will use the lungs.

    Raises:
        ValueError: no finished run is there (the message says how to train one), or its task is
            not lung masks.
    """
    run_path = _absolute(run)
    if _is_finished(run_path):
        _load_config(run_path)
    elif not all(_file(path, name).exists() for name in run_files.SPLITS):
        raise ValueError(
            f"lungs_run: {run_path} holds no finished run; train one that finds lungs first, with "
            f"{_lungs_command(data)}, and name its folder with --config.lungs_run."
        )


def replace(
    splits: Mapping[str, record.Source], run: str, path: epath.Path
) -> dict[str, record.Source]:
    """Replaces the lungs of all splits by those that a finished run's network finds.

    The masks are kept in `path/lungs_<split>.npz`, so that the work is done once and the other run
    isn't needed again. A digest of its weights identifies the network, wherever its folder is.

    Args:
        splits: records of each split; their annotated lungs are not used.
        run: folder of a finished run whose task is lung masks of X-rays.
        path: folder of the run that will use the lungs.

    Raises:
        ValueError: there is neither a finished run nor a kept mask of every image, the run has
            another task, or `path` was trained with the lungs of another network.
    """
    run_path = _absolute(run)
    kept = {name: _load(_file(path, name), _ids(source)) for name, source in splits.items()}
    if _is_finished(run_path):
        found = _find_missing(splits, kept, run_path, path)
    else:
        found = _require_kept(kept, run_path, path)
    return {
        name: derived.WithLungs(source, found[name].masks, found[name].resize)
        for name, source in splits.items()
    }


def _find_missing(
    splits: Mapping[str, record.Source],
    kept: Mapping[str, Lungs | None],
    run: epath.Path,
    path: epath.Path,
) -> dict[str, Lungs]:
    """Returns the kept masks of this network, and finds those that are missing."""
    lung_run = trained.open_run(run, _load_config(run))
    made_by = _digest(lung_run.config, lung_run.state)
    others = {lungs.made_by for lungs in kept.values() if lungs} - {made_by}
    if others and workdir.is_trained(path):
        raise ValueError(
            f"lungs_run: {run} is another network than the one whose lungs {path} was trained "
            "with; name that one, or choose another --workdir."
        )
    _warn_of_overlap(run, splits)
    found = {}
    for name, source in splits.items():
        lungs = kept[name]
        if lungs is None or lungs.made_by != made_by:
            masks = _find(lung_run.system, lung_run.state, source, f"lungs_{name}")
            lungs = Lungs(masks, lung_run.system.image_settings.resize, made_by)
            _save(_file(path, name), lungs, _ids(source))
        found[name] = lungs
    return found


def _require_kept(
    kept: Mapping[str, Lungs | None], run: epath.Path, path: epath.Path
) -> dict[str, Lungs]:
    """Returns the kept masks; raises ValueError unless one network found all of them."""
    found = {name: lungs for name, lungs in kept.items() if lungs}
    if found.keys() != kept.keys() or len({x.made_by for x in found.values()}) != 1:
        raise ValueError(
            f"lungs_run: {run} holds no finished run, and {path} does not keep the lungs of all of "
            "these images; name the folder of a finished run with --config.lungs_run."
        )
    logging.info("lungs_run: %s is gone; using the lungs kept in %s", run, path)
    return found


def _absolute(run: str) -> epath.Path:
    return epath.Path(run).expanduser().resolve()


def _file(path: epath.Path, split: str) -> epath.Path:
    return path / f"lungs_{split}.npz"


def _ids(source: record.Source) -> list[str]:
    return [image_id for image_id, _ in source.people()]


def _is_finished(run: epath.Path) -> bool:
    return (run / run_files.FINISHED).exists()


def _lungs_command(data: mlc.ConfigDict) -> str:
    """Returns the variant of `v7_lungs` that trains on the same images, as flags."""
    fold = f"fold={data.fold},folds={data.folds}" if data.get("folds") else ""
    for size in ("", "phantom", "quick"):
        spec = ":".join(filter(None, ("v7_lungs", ",".join(filter(None, (fold, size))))))
        found = config_file.load(config_file.resolve(spec))
        if found.data.phantom_images == data.phantom_images:
            return f"--config={spec}"
    spec = ",".join(filter(None, (fold, "phantom")))
    return f"--config=v7_lungs:{spec} --config.data.phantom_images={data.phantom_images}"


def _load_config(run: epath.Path) -> mlc.ConfigDict:
    config = workdir.load_config(run)
    with workdir.naming_config(run):
        task = system_lib.make_task(config)
    if (task.role, task.records) != ("lung", "images"):
        raise ValueError(
            f"lungs_run: {run} is a run of task {config.task_name}, want lung masks of X-rays."
        )
    config.calibrate = False  # A temperature changes no mask, so it need not be known.
    return config


def _digest(config: mlc.ConfigDict, state: train_step.TrainState) -> str:
    """Returns a digest of what masks depend on: checkpoint, threshold and the images' size."""
    data = {name: config.data[name] for name in ("image_size", "resize")}
    parts = [checkpoint.digest_state(state), config.task.to_dict(), data]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _warn_of_overlap(run: epath.Path, splits: Mapping[str, record.Source]) -> None:
    """Warns of images that the lung network was trained on: their lungs are better than others."""
    split_there = splits_file.read(run / "splits.csv")
    for name in ("validation", "test"):
        if name in splits:
            ids = _ids(splits[name])
            known = sum(split_there.get(image_id) == "train" for image_id in ids)
            if known:
                logging.warning(
                    "%d of %d %s images trained the lung network of %s; use the same splits and "
                    "seed for both runs",
                    known,
                    len(ids),
                    name,
                    run,
                )


def _load(file: epath.Path, image_ids: list[str]) -> Lungs | None:
    """Reads the masks in `file`; None if it is absent, damaged or of other images."""
    if not file.exists():
        return None
    try:
        with np.load(io.BytesIO(file.read_bytes())) as content:
            if content["image_ids"].tolist() != image_ids:
                return None
            masks = np.unpackbits(content["masks"], axis=-1)[..., : content["size"]] > 0
            return Lungs(masks, content["resize"].item(), content["made_by"].item())
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        logging.warning("%s: damaged (%s)", file, error)
        return None


def _save(file: epath.Path, lungs: Lungs, image_ids: list[str]) -> None:
    content = io.BytesIO()
    np.savez_compressed(
        content,
        masks=np.packbits(lungs.masks, axis=-1),
        size=lungs.masks.shape[-1],
        resize=lungs.resize,
        made_by=lungs.made_by,
        image_ids=np.array(image_ids),
    )
    files.write_bytes(file, content.getvalue())


def _find(
    system: system_lib.System, state: train_step.TrainState, source: record.Source, what: str
) -> np.ndarray:
    """Finds the lungs, [N, S, S] bool; holds only packed masks and scores in memory."""
    feed = pipeline.open_feed(source, system.settings, system.shardings, what)
    everything = order.in_turn(feed.num_examples)
    outputs = image_inference.predict(system, state, feed, everything, feed.num_examples)
    packed, dice = [], []
    for output in progress.report(outputs, f"finding {what}", "images", feed.num_examples):
        packed.append(np.packbits(output["preds"] > 0, axis=-1))
        dice.append(system.task.image_scores(output["confusion"])["dice"])
    logging.info("%s: %d images, Dice against the annotation %.4f", what, len(dice), np.mean(dice))
    size = system.image_settings.image_size
    return np.unpackbits(np.stack(packed), axis=-1, count=size).view(bool)
