"""Turns a config into objects: network, task, optimizer, and their jitted steps."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections as mlc
import numpy as np

from jaxlung import models
from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.feed import resident
from jaxlung.data.sources import datasets
from jaxlung.data.transforms import augment, augment_3d, preprocess
from jaxlung.models import network
from jaxlung.parallel import cudnn, distributed, sharding
from jaxlung.tasks import task as task_lib
from jaxlung.tasks import tasks
from jaxlung.training import checkpoint, compiler_options, train_step
from jaxlung.training import control as control_lib
from jaxlung.training import optimizer as optimizer_lib

STEPS_PER_DISPATCH = 10  # On accelerators, for which the host sends single steps too slowly.


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """The section `step` of a config.

    Attributes:
        steps_per_dispatch: number of training steps, or of validation's batches, that are sent to
            the device together; 0 chooses 10 on accelerators and 1 on CPUs, whose loops are slow.
        microbatches: see `train_step.Step`.
        remat: see `train_step.Step`.
    """

    steps_per_dispatch: int
    microbatches: int
    remat: bool

    def __post_init__(self) -> None:
        for name, least in (("steps_per_dispatch", 0), ("microbatches", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"step.{name}: got {getattr(self, name)}, want {least} or more.")


@dataclasses.dataclass(frozen=True)
class System:
    """The objects that a config describes, ready to compile.

    Attributes:
        step: what is computed for a batch: network, task, optimizer, input.
        steps_per_dispatch: number of training steps, or of validation's batches, that are sent to
            the device together.
        control: when the learning rate falls and when training stops.
        optimizer: rates and rules of the updates.
        shardings: where arrays live.
        settings: how records become batches.
        inference: how whole volumes are predicted; None for images.
        seed: [] uint32 on every device; its shape alone if the devices are only described.
    """

    step: train_step.Step
    steps_per_dispatch: int
    control: control_lib.Settings
    optimizer: optimizer_lib.Settings
    shardings: sharding.Shardings
    settings: settings_lib.Settings
    inference: settings_lib.InferenceSettings | None
    seed: jax.Array | jax.ShapeDtypeStruct

    @property
    def platform(self) -> str:
        """The kind of its devices: "cpu", "gpu" or "tpu"."""
        return self.shardings.platform

    @property
    def model(self) -> network.Network:
        """The network."""
        return self.step.model

    @property
    def task(self) -> task_lib.Task:
        """The task, which gives the network's logits their meaning."""
        return self.step.task

    @property
    def is_volumetric(self) -> bool:
        """True if records are volumes and examples are patches of them."""
        return self.inference is not None

    @property
    def image_settings(self) -> settings_lib.ImageSettings:
        """Settings of a system for images."""
        assert isinstance(self.settings, settings_lib.ImageSettings)
        return self.settings

    @property
    def patch_settings(self) -> settings_lib.PatchSettings:
        """Settings of a system for volumes."""
        assert isinstance(self.settings, settings_lib.PatchSettings)
        return self.settings

    @property
    def volume_inference(self) -> settings_lib.InferenceSettings:
        """Settings for whole volumes, of a system for volumes."""
        assert self.inference is not None
        return self.inference

    def init_state(self) -> train_step.TrainState:
        """Makes a fresh state, where it will live."""
        init = distributed.compiled_by_all(self._jit("init", self._init))
        state: train_step.TrainState = init(self.seed)
        return state

    def abstract_state(self) -> train_step.TrainState:
        """Returns shapes, types and shardings of the state; computes nothing."""
        shapes = jax.eval_shape(self._init, self.seed)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.shardings.replicated),
            shapes,
        )

    def abstract_params(self) -> Any:
        """Returns shapes and types of the parameters, which don't depend on the optimizer."""
        init = functools.partial(self.step.init_variables, input_shape=self.settings.input_shape)
        return jax.eval_shape(init, self.seed)["params"]

    def _init(self, seed: jax.Array) -> train_step.TrainState:
        return self.step.init(seed, self.settings.input_shape, self.optimizer.learning_rate)

    def jit_train_step(self, take: feed_lib.Take, total_steps: int = 1) -> jax.stages.Wrapped:
        """Jits `(state, store, item, seed) -> (state, metrics)`, which reuses the state's memory.

        It takes one step for each batch of the item. Metrics are [K], confusions [K, L, L].

        Args:
            take: see `feed.Take`.
            total_steps: length of the schedule; it doesn't matter to those who only measure.
        """
        schedule = optimizer_lib.make_schedule(self.optimizer, total_steps)
        one = functools.partial(self.step.train, schedule=schedule)

        def step_fn(
            state: train_step.TrainState, store: Any, item: Any, seed: jax.Array
        ) -> tuple[train_step.TrainState, dict[str, jax.Array]]:
            if len(jax.tree.leaves(item)[0]) > 1:
                return jax.lax.scan(
                    lambda state, item: one(state, take(store, item), seed), state, item
                )
            state, metrics = one(state, take(store, feed_lib.first_step(item)), seed)
            return state, jax.tree.map(lambda x: x[None], metrics)

        return self._jit("train", step_fn, donate_argnums=0)

    def jit_validation_step(self, take: feed_lib.Take) -> jax.stages.Wrapped:
        """Jits `(state, store, item) -> scores` of the K batches of an item, [K, B, ...].

        No output has the size of images; see `Step.validate`.
        """

        def validate(state: train_step.TrainState, store: Any, item: Any) -> dict[str, jax.Array]:
            if len(jax.tree.leaves(item)[0]) > 1:
                return jax.lax.map(lambda x: self.step.validate(state, take(store, x)), item)
            scores = self.step.validate(state, take(store, feed_lib.first_step(item)))
            return jax.tree.map(lambda x: x[None], scores)

        return self._jit("evaluate", validate)

    def jit_eval_step(self) -> jax.stages.Wrapped:
        """Jits `Step.evaluate`."""
        return self._jit("evaluate", self.step.evaluate)

    def jit_window_step(self) -> jax.stages.Wrapped:
        """Jits `Step.predict`."""
        return self._jit("predict", self.step.predict)

    def with_task(self, task: task_lib.Task) -> "System":
        """Returns the system with another task, such as one with its threshold chosen."""
        return dataclasses.replace(self, step=dataclasses.replace(self.step, task=task))

    def with_temperature(self, temperature: float) -> "System":
        """Returns the system whose logits are divided by a temperature; its masks stay the same."""
        task = task_lib.with_temperature(self.task, temperature)
        step = dataclasses.replace(self.step, temperature=temperature, task=task)
        return dataclasses.replace(self, step=step)

    def _jit(
        self, program: compiler_options.Program, function: Callable[..., Any], **settings: Any
    ) -> jax.stages.Wrapped:
        options = compiler_options.choose(program, self.platform, is_volumetric=self.is_volumetric)
        return jax.jit(
            function,
            out_shardings=self.shardings.replicated,
            compiler_options=options,
            **settings,
        )

    @functools.cached_property
    def eval_step(self) -> distributed.Program:
        """`Step.evaluate`, jitted; compiled once for all splits."""
        return distributed.compiled_by_all(self.jit_eval_step())

    @functools.cached_property
    def window_step(self) -> distributed.Program:
        """`Step.predict`, jitted; compiled once for all images or volumes."""
        return distributed.compiled_by_all(self.jit_window_step())

    @functools.cached_property
    def logits_step(self) -> Callable[[train_step.TrainState, feed_lib.Batch], jax.Array]:
        """`Step.logits`, jitted."""
        return distributed.compiled_by_all(self._jit("predict", self.step.logits))

    @functools.cached_property
    def compare_step(
        self,
    ) -> Callable[[train_step.TrainState, feed_lib.Batch], dict[str, jax.Array]]:
        """`Step.compare`, jitted."""
        return distributed.compiled_by_all(self._jit("evaluate", self.step.compare))


def make_system(config: mlc.ConfigDict, devices: Sequence[jax.Device] | None = None) -> System:
    """Makes everything that doesn't need data.

    Args:
        config: the run.
        devices: what it runs on; None for all devices that JAX sees. For described devices, which
            are not here, programs can be compiled; nothing can be run.

    Raises:
        ValueError: a field has a value that can't be used; the message names the field, the value
            and the choices.
    """
    require_sensible(config)
    _, settings = settings_lib.split_section(config.data.to_dict(), config.seed)
    shardings = sharding.make_shardings(**config.mesh, devices=devices)
    sharding.require_divisible(settings.batch_size, shardings, "data.batch_size")
    sharding.require_divisible(settings.eval_batch_size, shardings, "data.eval_batch_size")
    if not shardings.are_described:
        resident.require_memory(settings, shardings.mesh.size)
    step_settings = StepSettings(**config.step)
    if settings.batch_size % (step_settings.microbatches * shardings.num_batch_shards):
        raise ValueError(
            f"step.microbatches: got {step_settings.microbatches}, want a divisor of the "
            f"{settings.batch_size // shardings.num_batch_shards} examples of a batch that each "
            "device has."
        )
    rows = settings.input_shape[-2]
    if rows % shardings.num_space_shards:
        raise ValueError(
            f"mesh.space: got {shardings.num_space_shards}, want a divisor of "
            f"{rows}, the rows of the network's input."
        )
    is_volumetric = isinstance(settings, settings_lib.PatchSettings)
    if is_volumetric and shardings.platform == "gpu" and not shardings.are_described:
        cudnn.require_sound_3d(config.model.dtype)
    model = choose(models.MODELS, config.model_name, "model_name")(**config.model)
    optimizer = optimizer_lib.Settings(**config.optimizer)
    step = train_step.Step(
        model=model.for_platform(shardings.platform),
        task=make_task(config),
        temperature=1.0,  # `with_temperature` sets that of trained weights.
        tx=optimizer_lib.make_optimizer(optimizer, config.freeze),
        **(make_patch_input(config) if is_volumetric else make_image_input(config)),
        average_decay=optimizer.average_decay,
        freeze=config.freeze,
        microbatches=step_settings.microbatches,
        remat=step_settings.remat,
        images_sharding=shardings.volumes if is_volumetric else shardings.images,
    )
    default = 1 if shardings.platform == "cpu" else STEPS_PER_DISPATCH
    system = System(
        step=step,
        steps_per_dispatch=step_settings.steps_per_dispatch or default,
        control=control_lib.Settings(**config.control),
        optimizer=optimizer,
        shardings=shardings,
        settings=settings,
        inference=settings_lib.InferenceSettings(**config.inference) if is_volumetric else None,
        seed=make_seed(config.seed, shardings),
    )
    if config.freeze:
        optimizer_lib.require_freezable(system.abstract_params(), config.freeze)
    return system


def make_seed(seed: int, shardings: sharding.Shardings) -> jax.Array | jax.ShapeDtypeStruct:
    """Returns a seed on every device, or its shape alone if the devices are only described."""
    if shardings.are_described:
        return jax.ShapeDtypeStruct((), np.uint32, sharding=shardings.replicated)
    placed: jax.Array = sharding.put(np.uint32(seed), shardings.replicated)
    return placed


def make_patch_input(config: mlc.ConfigDict) -> dict[str, Any]:
    """Returns "scale" and "augment" of `train_step.Step` for patches of volumes."""
    amounts = augment_3d.Augment3D(**config.augment)
    return dict(
        scale=functools.partial(preprocess.window_hu, window=tuple(config.window_hu)),
        augment=functools.partial(augment_3d.augment, settings=amounts),
    )


def make_image_input(config: mlc.ConfigDict) -> dict[str, Any]:
    """Returns "scale" and "augment" of `train_step.Step` for images."""
    amounts = augment.Augment(**config.augment)
    return dict(
        scale=preprocess.min_max_scale,
        augment=functools.partial(augment.augment, settings=amounts),
    )


def require_sensible(config: mlc.ConfigDict) -> None:
    """Raises ValueError for settings that would fail only hours later, or as a strange shape."""
    for name in ("epochs", "log_every_steps"):
        if config[name] < 1:
            raise ValueError(f"{name}: got {config[name]}, want 1 or more.")
    if config.selection not in checkpoint.SELECTIONS:
        raise ValueError(
            f"selection: got {config.selection!r}, want one of {', '.join(checkpoint.SELECTIONS)}."
        )
    if config.model.get("num_classes", 1) != 1:
        raise ValueError(
            f"model.num_classes: got {config.model.num_classes}, want 1; every task has one map."
        )
    if config.calibrate and make_task(config).threshold is None:
        raise ValueError(
            f"calibrate: got True with task_name {config.task_name!r}, whose output is a grey "
            "level, not a probability; want False."
        )
    if "patch_size" in config.data:
        require_window(config.window_hu)
        require_one_region(config)
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"seed: got {config.seed}, want 0 to 2 ** 32 - 1.")


def require_window(window_hu: tuple[float, ...]) -> None:
    """Raises ValueError unless the window is two Hounsfield units, the lower one first."""
    are_numbers = all(type(value) in (int, float) for value in window_hu)
    if not are_numbers or len(window_hu) != 2 or not window_hu[0] < window_hu[1]:
        raise ValueError(f"window_hu: got {tuple(window_hu)}, want two numbers, the lower first.")


def require_one_region(config: mlc.ConfigDict) -> None:
    """Raises ValueError if patches, volumes and task are about different regions."""
    task = make_task(config)
    if config.data.crop_to_lungs and not task.needs_lungs:
        raise ValueError(
            "data.crop_to_lungs: got True with a task that sees all of the CT (task.region "
            "'full'), want False; the variant :region=full sets both."
        )
    if task.is_binary_map and config.data.foreground != task.role:
        raise ValueError(
            f"data.foreground: got {config.data.foreground!r}, want task.target, "
            f"{task.role!r}; the variant :target= sets both."
        )


def open_splits(config: mlc.ConfigDict, *, may_prepare: bool = True) -> Mapping[str, record.Source]:
    """Opens the config's dataset; see `datasets.open_splits`."""
    fields, _ = settings_lib.split_section(config.data.to_dict(), config.seed)
    needs = make_task(config).needs
    return datasets.open_splits(fields, needs=needs, seed=config.seed, may_prepare=may_prepare)


def make_task(config: mlc.ConfigDict) -> task_lib.Task:
    """Makes the task of a config."""
    return choose(tasks.TASKS, config.task_name, "task_name")(**config.task)


def choose(choices: dict[str, Any], name: str, field: str) -> Any:
    """Returns `choices[name]`; raises ValueError, which lists the choices, without it."""
    if name not in choices:
        raise ValueError(f"{field}: got {name!r}, want one of {', '.join(choices)}.")
    return choices[name]
