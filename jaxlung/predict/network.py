"""A trained run as a network for a user's images: NumPy arrays in, NumPy arrays out."""

import collections
import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import ml_collections as mlc
import numpy as np
from absl import logging
from etils import epath

from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.data.transforms import resize, volumes
from jaxlung.parallel import distributed, sharding
from jaxlung.training import checkpoint, train_step, trained
from jaxlung.training import system as system_lib
from jaxlung.training.inference import volumes as volume_inference
from jaxlung.volume import device_map, hounsfield


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """The selected network of a run, made by `load`.

    Attributes:
        path: the run's folder.
        system: the run's system, laid out over the devices that predict.
        state: the weights, without the optimizer's state.
        step: `System.window_step`, one for all networks of one form on the same devices, so that it
            is compiled once.
        mirror: True to average outputs with those of mirror images.
        digest: SHA-256 of everything that predictions depend on, in hexadecimal.
    """

    path: epath.Path
    system: system_lib.System
    state: train_step.TrainState
    step: distributed.Program
    mirror: bool
    digest: str

    @property
    def role(self) -> str:
        """The role of the network's task, see `task.Task`."""
        return self.system.task.role

    @property
    def needs_lungs(self) -> bool:
        """True if the network sees the inside of the lungs alone, so that it needs a lung mask."""
        return self.system.task.needs_lungs

    @property
    def is_volumetric(self) -> bool:
        """True if the network is for CTs, False if it is for X-rays."""
        return self.system.is_volumetric

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices that predict; they share each batch."""
        return tuple(self.system.shardings.mesh.devices.flat)

    @property
    def input_form(self) -> tuple[Any, ...]:
        """The settings that `fit` and `prepare` depend on."""
        settings = self.system.settings
        if isinstance(settings, settings_lib.ImageSettings):
            return settings.image_size, settings.resize
        return settings.patch_size, settings.spacing_mm, settings.crop_to_lungs

    def predict(
        self,
        image: np.ndarray,
        lungs: np.ndarray | None = None,
        spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> np.ndarray:
        """Returns the mask of one image at its own size.

        Args:
            image: an X-ray [H, W] uint8, upright, bone white; or, for a network for CTs, [D, H, W]
                int16 HU, whose axes point to the patient's superior, posterior and left.
            lungs: mask of the lungs, of the image's shape, for a network that `needs_lungs`; any
                value but 0 is lung.
            spacing_mm: distances between a CT's voxels along D, H, W; ignored for an X-ray.

        Returns:
            uint8 of the image's shape, indices into `system.task.levels`; [1, 1] for a diagnosis.

        Raises:
            ValueError: the image has another type or shape, the spacing is outside of what CTs
                have, or the lungs are missing.
        """
        if self.is_volumetric:
            found = self.find_in_volume(self.to_record(image, lungs, spacing_mm))
            return self.mask_of(found).astype(np.uint8)
        return self.preds(self.probs(image, lungs, spacing_mm))

    def probs(
        self,
        image: np.ndarray,
        lungs: np.ndarray | None = None,
        spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> np.ndarray:
        """Returns the network's raw output, float32 in [0, 1]; see `predict` for the rest."""
        if self.is_volumetric:
            return self.find_in_volume(self.to_record(image, lungs, spacing_mm)).fetch()
        require_image(image, self.is_volumetric)
        return self.predict_pictures([image], None if lungs is None else [lungs])[0]

    def to_record(
        self,
        image: np.ndarray,
        lungs: np.ndarray | None,
        spacing_mm: tuple[float, float, float],
    ) -> record.VolumeRecord:
        """Returns a CT as a record; see `predict` for arguments and errors."""
        require_image(image, self.is_volumetric)
        mask = self._pack_lungs(image, lungs)
        if doubt := hounsfield.doubt(image, window="none"):
            logging.warning("the image has %s", doubt)
        affine = np.diag([*spacing_mm[::-1], 1.0])
        return record.VolumeRecord(
            image, mask, spacing_mm, image.shape[::-1], affine, "image", "patient", ""
        )

    def predict_pictures(
        self, images: Sequence[np.ndarray], lungs: Sequence[np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Returns the raw outputs for X-rays.

        Args:
            images: [H, W] uint8 each, upright, bone white; sizes may differ.
            lungs: masks of the lungs, of the same shapes, for a network that `needs_lungs`.

        Returns:
            [H, W] float32 in [0, 1] for each image, at its own size; [1, 1] for a diagnosis.

        Raises:
            ValueError: the network needs lungs and there are none, or they have another shape.
        """
        fitted = [
            self.fit(image, None if lungs is None else lungs[i]) for i, image in enumerate(images)
        ]
        outputs = self.predict_fitted(fitted)
        return [self.unfit(x, image.shape) for x, image in zip(outputs, images, strict=True)]

    def fit(
        self, image: np.ndarray, lungs: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Resizes an X-ray [H, W] uint8 and its lungs to the network's [S, S] uint8.

        Raises:
            ValueError: the network needs lungs and there are none, or they have another shape.
        """
        mask = self._pack_lungs(image, lungs)
        settings = self._image_settings
        return resize.fit(image, mask, settings.image_size, settings.resize)

    def predict_fitted(self, fitted: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Returns the raw outputs for N pairs made by `fit`: [N, S, S] float32, or [N, 1, 1]."""
        return fetch(self.queue(fitted), len(fitted))

    def queue(self, fitted: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[jax.Array]:
        """Sends N pairs made by `fit` to the devices, without waiting for the outputs.

        All batches have one size, the last one filled up, so that one program is compiled.

        Returns:
            The outputs of every batch, for `fetch`.
        """
        size = self.system.settings.eval_batch_size
        parts = [fitted[start : start + size] for start in range(0, len(fitted), size)]
        batches = [jax.tree.map(lambda *x: pad(x, size), *part) for part in parts]
        return [self._forward(images, masks) for images, masks in batches]

    def _forward(self, images: np.ndarray, masks: np.ndarray) -> jax.Array:
        """Returns the raw outputs for a batch; with `mirror` averaged with its mirror image's."""
        batch = {"images": images, "masks": masks}
        outputs = self._step(batch)
        if not self.mirror:
            return outputs
        mirrored = self._step({name: x[..., ::-1] for name, x in batch.items()})
        return _mean_of_mirrored(outputs, mirrored)

    def _step(self, batch: dict[str, np.ndarray]) -> jax.Array:
        outputs: jax.Array = self.step(self.state, sharding.put(batch, self.system.shardings.batch))
        return outputs

    def unfit(self, probs: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Resizes a raw output to the size of its image; a diagnosis stays [1, 1]."""
        if not self.system.task.is_map:
            return probs
        return resize.unfit(probs, *shape, self._image_settings.resize)

    def prepare(self, item: record.VolumeRecord) -> volumes.Volume:
        """Makes a CT ready for networks of this `input_form`."""
        return volumes.load(item, self.system.patch_settings)

    def find_in_volume(
        self,
        item: record.VolumeRecord,
        *,
        whole: bool = False,
        prepared: volumes.Volume | None = None,
    ) -> device_map.Map:
        """Returns the probabilities of a CT on its own voxels, on the device, without waiting.

        For a network that `needs_lungs` the record's mask must hold the lungs.

        Args:
            item: the CT.
            whole: see `device_map.Map.resampled`.
            prepared: the CT from `prepare`, if there is one already.
        """
        found = volume_inference.find(
            *(self.system, self.state, item),
            whole=whole,
            step=self.step,
            volume=prepared or self.prepare(item),
        )
        return found.clipped()

    def mask_of(self, found: device_map.Map) -> np.ndarray:
        """Returns the mask of a map of a CT, [D, H, W] bool on the host."""
        return volume_inference.mask_of(self.system, found)

    def preds(self, probs: np.ndarray) -> np.ndarray:
        """Returns the levels of one image's raw output, uint8 of the same shape."""
        if self.is_volumetric:
            return volume_inference.find_foreground(self.system, probs).astype(np.uint8)
        return np.asarray(self.system.task.postprocess(probs[..., None]))

    @property
    def _image_settings(self) -> settings_lib.ImageSettings:
        settings = self.system.settings
        assert isinstance(settings, settings_lib.ImageSettings)
        return settings

    def _pack_lungs(self, image: np.ndarray, lungs: np.ndarray | None) -> np.ndarray:
        """Returns the lungs as a packed mask, uint8; 0 if there are none and none are needed."""
        if lungs is not None:
            return to_bits(lungs, image.shape)
        if self.needs_lungs:
            raise ValueError(f"{self.path}: the network sees the lungs alone; want `lungs`, too.")
        return np.zeros(image.shape, np.uint8)


@jax.jit
def _mean_of_mirrored(outputs: jax.Array, mirrored: jax.Array) -> jax.Array:
    return (outputs + mirrored[..., ::-1]) / 2


def load(path: os.PathLike[str] | str, *, mirror: bool = False) -> Network:
    """Loads a trained network onto all devices: the checkpoint that a run's config selects.

    Args:
        path: folder of a trained run, or exported file with one network.
        mirror: average outputs with those of mirror images: for X-rays left to right, at twice the
            work; for CTs in the plane of the slices, at four times the work.

    Raises:
        ValueError: the folder has no run or no good checkpoint, another process trains in it, the
            threshold of a diagnosis wasn't chosen yet, or a file can't be used or has several.
    """
    networks = load_all([path], mirror=mirror)
    if len(networks) != 1:
        raise ValueError(f"{path}: holds {len(networks)} networks, want one.")
    return networks[0]


def load_all(paths: Iterable[os.PathLike[str] | str], *, mirror: bool = False) -> list[Network]:
    """Loads the networks of all runs and exported files; see `load`.

    Those of one role are shared out over groups of devices, see `sharding.share_out`. Those of one
    form on the same devices share their compiled program.

    Args:
        paths: folders of trained runs, or exported files.
        mirror: see `load`.
    """
    stored = [each for path in paths for each in trained.find_all(path)]
    counts = collections.Counter(each.role for each in stored)
    turns = {role: itertools.cycle(sharding.share_out(n)) for role, n in counts.items()}
    steps: dict[Any, distributed.Program] = {}
    networks = []
    for each in stored:
        run = each.load(next(turns[each.role]))
        made = make(run, mirror=mirror)
        step = steps.setdefault((_program(run), made.devices), made.step)
        networks.append(dataclasses.replace(made, step=step))
    return networks


def make(run: trained.Trained, *, mirror: bool = False) -> Network:
    """Makes a network of a trained run; see `load`."""
    system, state = run.system, run.state
    if mirror and system.inference is not None:
        inference = dataclasses.replace(system.inference, mirror=True)
        system = dataclasses.replace(system, inference=inference)
    return Network(
        path=run.path,
        system=system,
        state=dataclasses.replace(state, opt_state=()),
        step=system.window_step,
        mirror=mirror,
        digest=make_digest(run.config, state, mirror, system.step.temperature),
    )


def make_digest(
    config: mlc.ConfigDict, state: train_step.TrainState, mirror: bool, temperature: float
) -> str:
    """Returns the SHA-256 of weights, task, input, temperature and post-processing."""
    names = ("image_size", "patch_size", "spacing_mm", "resize", "crop_to_lungs")
    parts: list[Any] = [checkpoint.digest_state(state), config.task.to_dict()]
    parts += [{name: config.data[name] for name in names if name in config.data}, mirror]
    parts += [config.inference.to_dict() if "inference" in config else {}]
    parts += [config.get("window_hu", ())]
    parts += [temperature] * (temperature != 1)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _program(run: trained.Trained) -> str:
    """Returns all that `Step.predict` of a run depends on, besides its weights and devices."""
    names = ("image_size", "patch_size", "eval_batch_size")
    parts: list[Any] = [run.config.model_name, run.config.model.to_dict()]
    parts += [run.config.task_name, run.config.task.to_dict() | {"threshold": None}]
    parts += [{name: run.config.data[name] for name in names if name in run.config.data}]
    parts += [run.config.get("window_hu", ()), run.system.step.temperature]
    return json.dumps(parts, sort_keys=True)


def fetch(queued: list[jax.Array], count: int) -> np.ndarray:
    """Waits for the outputs of `Network.queue`; returns the first `count` of them, [N, ...]."""
    return np.concatenate(jax.device_get(queued))[:count]


def pad(arrays: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Stacks arrays and repeats the first one up to `size` rows."""
    return np.stack([*arrays, *[arrays[0]] * (size - len(arrays))])


def to_bits(lungs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the lungs as a packed mask, uint8.

    Raises:
        ValueError: the lungs have another shape than the image.
    """
    if lungs.shape != shape:
        raise ValueError(f"lungs: got {lungs.shape}, want the image's shape {shape}.")
    return (lungs != 0) * np.uint8(record.LUNG)


def require_image(image: np.ndarray, is_volumetric: bool) -> None:
    """Raises ValueError unless the array is what this kind of network takes."""
    ndim, dtype, what = (3, np.int16, "[D, H, W]") if is_volumetric else (2, np.uint8, "[H, W]")
    if image.ndim != ndim or image.dtype != dtype or 0 in image.shape:
        raise ValueError(
            f"image: want {what} {np.dtype(dtype)}, not empty, got {image.shape} {image.dtype}."
        )
