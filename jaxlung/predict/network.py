"""A trained run as a network for somebody's images: NumPy in, NumPy out."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections as mlc
import numpy as np
from absl import logging
from etils import epath

from jaxlung import checkpoint, evaluate, files, sharding, train_step, workdir
from jaxlung import system as system_lib
from jaxlung.data import record, resize
from jaxlung.inference import volumes as volume_inference
from jaxlung.volume import hounsfield


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """The selected checkpoint of a run; made by `load`.

    Attributes:
        path: the run's folder.
        system: what its config describes, laid out over this machine's devices.
        state: the weights, without the optimizer's part.
        role: what it finds: "lung" or "infection", "levels" (both, in one map) or "diagnosis".
        needs_lungs: whether it sees the inside of the lungs alone, and must be told where they are.
        mirror: whether it looks at mirror images too.
        digest: of all that predictions depend on, hexadecimal.
    """

    path: epath.Path
    system: system_lib.System
    state: train_step.TrainState
    role: str
    needs_lungs: bool
    mirror: bool
    digest: str

    @property
    def is_volumetric(self) -> bool:
        """Whether it is for CTs, and not for X-rays."""
        return self.system.is_volumetric

    def predict(
        self,
        image: np.ndarray,
        lungs: np.ndarray | None = None,
        spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> np.ndarray:
        """What is found in one image, at its own size.

        Args:
            image: an X-ray [H, W] uint8, upright, bone white; or, for a network of CTs, [D, H, W]
                int16 HU, growing to the patient's superior, posterior and left.
            lungs: where the lungs are, of the image's shape, for a network that `needs_lungs`;
                anything but 0 is lung.
            spacing_mm: of a CT's voxels along D, H, W; an X-ray has no use for it.

        Returns:
            uint8 of the image's shape, an index into `system.task.levels`; of a diagnosis [1, 1].

        Raises:
            ValueError: an image of another type or shape, a spacing that no CT has, or no lungs.
        """
        return self.preds(self.probs(image, lungs, spacing_mm))

    def probs(
        self,
        image: np.ndarray,
        lungs: np.ndarray | None = None,
        spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> np.ndarray:
        """The network's raw output, float32 in [0, 1]; otherwise as `predict`."""
        require_image(image, self.is_volumetric)
        if not self.is_volumetric:
            return self.predict_pictures([image], None if lungs is None else [lungs])[0]
        if self.needs_lungs and lungs is None:
            raise ValueError(f"{self.path}: want `lungs` too; this network sees nothing else.")
        mask = np.zeros(image.shape, np.uint8) if lungs is None else to_bits(lungs, image.shape)
        if doubt := hounsfield.doubt(image, window="none"):
            logging.warning("the image has %s", doubt)
        affine = np.diag([*spacing_mm[::-1], 1.0])
        item = record.VolumeRecord(
            image, mask, spacing_mm, image.shape[::-1], affine, "image", "patient", ""
        )
        return self.predict_volume(item)

    def predict_pictures(
        self, images: Sequence[np.ndarray], lungs: Sequence[np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Raw outputs of X-rays.

        Args:
            images: [H, W] uint8 each, upright, bone white; sizes may differ.
            lungs: of the same shapes, for a network that `needs_lungs`.

        Returns:
            [H, W] float32 in [0, 1] for each, at its own size; [1, 1] of a diagnosis.

        Raises:
            ValueError: no lungs for a network that needs them, or lungs of another shape.
        """
        fitted = [
            self.fit(image, None if lungs is None else lungs[i]) for i, image in enumerate(images)
        ]
        outputs = self.predict_fitted(fitted)
        return [self.unfit(x, image.shape) for x, image in zip(outputs, images, strict=True)]

    def fit(
        self, image: np.ndarray, lungs: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """An X-ray [H, W] uint8 and its lungs at the network's size, both [S, S] uint8."""
        if self.needs_lungs and lungs is None:
            raise ValueError(f"{self.path}: want lungs too; this network sees nothing else.")
        mask = np.zeros(image.shape, np.uint8) if lungs is None else to_bits(lungs, image.shape)
        settings = self.system.settings
        return resize.fit(image, mask, settings.image_size, settings.resize)

    def predict_fitted(self, fitted: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Raw outputs of pairs that `fit` made, any number: [N, S, S] float32, or [N, 1, 1].

        The device gets batches of one size, the last one filled up, so that one program serves all.
        """
        size = self.system.settings.eval_batch_size
        parts = [fitted[start : start + size] for start in range(0, len(fitted), size)]
        batches = [jax.tree.map(lambda *x: pad(x, size), *part) for part in parts]
        # The device has all of them before the first is waited for.
        outputs = [self._forward(images, masks) for images, masks in batches]
        return np.concatenate(jax.device_get(outputs))[: len(fitted)]

    def _forward(self, images: np.ndarray, masks: np.ndarray) -> jax.Array:
        """Raw outputs of a batch; with `mirror` the mean over it and its mirror image."""
        batch = {"images": images, "masks": masks}
        outputs = self._step(batch)
        if not self.mirror:
            return outputs
        mirrored = self._step({name: x[..., ::-1] for name, x in batch.items()})
        return _mean_of_mirrored(outputs, mirrored)

    def _step(self, batch: dict[str, np.ndarray]) -> jax.Array:
        return self.system.window_step(self.state, sharding.put(batch, self.system.shardings.batch))

    def unfit(self, probs: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """A raw output at the size of the image that it is of; a diagnosis stays [1, 1]."""
        if not self.system.task.is_map:
            return probs
        return resize.unfit(probs, *shape, self.system.settings.resize)

    def predict_volume(self, item: record.VolumeRecord) -> np.ndarray:
        """Probabilities of a CT on its own voxels, [D, H, W] float32.

        Where the network sees lungs alone, the record's mask says where they are.
        """
        probs = volume_inference.predict_record(self.system, self.state, item)
        return np.clip(probs, 0, 1, out=probs)  # A weighted mean may round to above 1.

    def preds(self, probs: np.ndarray) -> np.ndarray:
        """Raw outputs of one image to its levels: uint8 of the same shape."""
        if self.is_volumetric:
            return volume_inference.find_foreground(self.system, probs).astype(np.uint8)
        return np.asarray(self.system.task.postprocess(probs[..., None]))


@jax.jit
def _mean_of_mirrored(outputs: jax.Array, mirrored: jax.Array) -> jax.Array:
    return (outputs + mirrored[..., ::-1]) / 2


def load(path: os.PathLike[str] | str, *, mirror: bool = False) -> Network:
    """Loads the checkpoint that a run's config selects, onto all devices.

    Args:
        path: folder of a trained run.
        mirror: also look at mirror images, and take the mean: of X-rays left to right, of CTs in
            the plane of the slices. Twice and four times the work.

    Raises:
        ValueError: no run there, no good checkpoint, training at work on it, or a diagnosis whose
            threshold nobody chose yet.
    """
    path = files.to_absolute(path)
    stored = workdir.load_config(path)
    sharding.visible_devices()  # Here: a kind of device that is missing isn't the config's fault.
    with workdir.naming_config(path):
        config = fit_to_machine(stored)
        role = find_role(config)
    config, system, state = open_run(path, config)
    if mirror and system.is_volumetric:
        inference = dataclasses.replace(system.inference, mirror=True)
        system = dataclasses.replace(system, inference=inference)
    return Network(
        path=path,
        system=system,
        state=state.replace(opt_state=()),
        role=role,
        needs_lungs=config.task.get("lungs", "none") != "none"
        or config.task.get("region") == "lung",
        mirror=mirror,
        digest=make_digest(config, state, mirror),
    )


def open_run(
    path: epath.Path, config: mlc.ConfigDict
) -> tuple[mlc.ConfigDict, system_lib.System, train_step.TrainState]:
    """Opens the checkpoint that a run selects, with the threshold that belongs to it.

    Args:
        path: the run's folder, absolute.
        config: of the run, maybe changed in what doesn't change its weights.

    Returns:
        The config, its threshold known; what it describes; and the weights.

    Raises:
        ValueError: see `load`.
    """
    with workdir.naming_config(path):
        system = system_lib.make_system(config)
    # Opening checkpoints clears away half-written ones, which may be another process's.
    finished = (path / "finished.txt").exists()
    with contextlib.nullcontext() if finished else workdir.lock(path):
        state = checkpoint.load_selected(path, config.selection, system.abstract_state())
    if system.task.threshold == 0:
        config = evaluate.with_threshold(config, evaluate.chosen_threshold(path, state))
        system = system_lib.make_system(config)
    return config, system, state


def fit_to_machine(config: mlc.ConfigDict) -> mlc.ConfigDict:
    """A copy of the config that suits any number of devices: it was maybe trained on others."""
    changed = mlc.ConfigDict(config.to_dict())
    count = len(sharding.visible_devices())
    changed.mesh.update(data=-1, space=1)
    changed.step.microbatches = 1
    for name in ("batch_size", "eval_batch_size"):
        changed.data[name] = -(-changed.data[name] // count) * count
    return changed


def find_role(config: mlc.ConfigDict) -> str:
    """What a run's network finds; see `Network`."""
    names = {"diagnosis": "diagnosis", "three_level": "levels"}
    return names.get(config.task_name) or config.task.target


def make_digest(config: mlc.ConfigDict, state: train_step.TrainState, mirror: bool) -> str:
    """SHA-256 of weights, task, input and post-processing."""
    weights = jax.device_get(checkpoint.digest_state(state))
    names = ("image_size", "patch_size", "spacing_mm", "resize", "crop_to_lungs")
    parts: list[Any] = [{name: int(x) for name, x in weights.items()}, config.task.to_dict()]
    parts += [{name: config.data[name] for name in names if name in config.data}, mirror]
    parts += [config.inference.to_dict() if "inference" in config else {}]
    parts += [config.get("window_hu", ())]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def pad(arrays: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Stacks arrays and repeats the first one up to `size` rows."""
    return np.stack([*arrays, *[arrays[0]] * (size - len(arrays))])


def to_bits(lungs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Lungs as a packed mask, uint8.

    Raises:
        ValueError: of another shape than the image.
    """
    if lungs.shape != shape:
        raise ValueError(f"lungs: got {lungs.shape}, want the image's shape {shape}.")
    return (lungs != 0) * np.uint8(record.LUNG)


def require_image(image: np.ndarray, is_volumetric: bool) -> None:
    """Raises ValueError unless the array is what this kind of network takes."""
    ndim, dtype, what = (3, np.int16, "[D, H, W]") if is_volumetric else (2, np.uint8, "[H, W]")
    if image.ndim != ndim or image.dtype != dtype or 0 in image.shape:
        raise ValueError(
            f"image: got {image.shape} {image.dtype}, want {what} {np.dtype(dtype)}, none empty."
        )
