"""A config made into objects: network, task, optimizer, and the jitted steps over them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections as mlc
import numpy as np
import optax
from jax.sharding import NamedSharding

from jaxlung import models
from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.data.feed import feed as road_lib
from jaxlung.data.feed import resident
from jaxlung.data.sources import datasets
from jaxlung.data.transforms import augment, augment_3d, preprocess
from jaxlung.models import network
from jaxlung.parallel import distributed, sharding
from jaxlung.tasks import task as task_lib
from jaxlung.tasks import tasks
from jaxlung.training import checkpoint, frozen, optimizer, train_step, training_control

# XLA's option: a CPU's convolutions and products are Eigen's, none YNNPACK's.
BY_EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}
STEPS_PER_DISPATCH = 10  # On accelerators, where the host would be too slow to send each alone.


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """How a training step is computed; section `step` of a config.

    Attributes:
        steps_per_dispatch: steps that the device takes before it asks the host again; 0 chooses
            10 on accelerators and 1 on CPUs, whose loops are slow.
        microbatches: see `train_step.train_step`.
        remat: likewise.
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
    """What a config describes, ready to compile.

    Attributes:
        model: the network.
        task: what its logits mean.
        tx: the optimizer.
        scale: makes what is stored the network's, float32 in [0, 1].
        augment: what is varied in training.
        control: when the learning rate falls and when training stops.
        learning_rate: that training starts with.
        freeze: pattern of the parameters that don't train.
        step: how training steps are computed.
        shardings: where arrays live.
        settings: how records become batches.
        inference: how whole volumes are predicted; None of images.
        seed: [] uint32 on every device.
    """

    model: network.Network
    task: task_lib.Task
    tx: optax.GradientTransformation
    scale: train_step.Scale
    augment: train_step.Augment
    control: training_control.Settings
    learning_rate: float
    freeze: str
    step: StepSettings
    shardings: sharding.Shardings
    settings: settings_lib.Settings
    inference: settings_lib.InferenceSettings | None
    seed: jax.Array

    @property
    def is_volumetric(self) -> bool:
        """Whether records are volumes, and examples patches of them."""
        return self.inference is not None

    @property
    def images_sharding(self) -> NamedSharding:
        """Where the network's inputs live."""
        return self.shardings.volumes if self.is_volumetric else self.shardings.images

    @property
    def steps_per_dispatch(self) -> int:
        """Steps that are sent to the device together."""
        default = 1 if jax.default_backend() == "cpu" else STEPS_PER_DISPATCH
        return self.step.steps_per_dispatch or default

    def init_state(self) -> train_step.TrainState:
        """A fresh state, created where it will live."""
        # Runs once: CPUs compile the random numbers 5 to 12 times faster with less optimisation,
        # to the same bits.
        options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
        init = jax.jit(
            self._init_fn(), out_shardings=self.shardings.replicated, compiler_options=options
        )
        return init(self.seed)

    def abstract_state(self) -> train_step.TrainState:
        """Shapes, types and shardings of the state; computes nothing."""
        shapes = jax.eval_shape(self._init_fn(), self.seed)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.shardings.replicated),
            shapes,
        )

    def abstract_params(self) -> Any:
        """Shapes of the parameters; depends on neither data nor optimizer."""
        shape = self.settings.input_shape
        images = jax.ShapeDtypeStruct((1, *shape, 1), np.float32)
        masks = jax.ShapeDtypeStruct((1, *shape), np.uint8)

        def init(images: jax.Array, masks: jax.Array) -> Any:
            inputs = self.task.inputs(images, masks)
            return self.model.init(jax.random.key(0), inputs, train=False)["params"]

        return jax.eval_shape(init, images, masks)

    def _init_fn(self) -> Callable[[jax.Array], train_step.TrainState]:
        return functools.partial(
            train_step.init_state,
            model=self.model,
            tx=self.tx,
            task=self.task,
            input_shape=self.settings.input_shape,
            learning_rate=self.learning_rate,
        )

    def jit_train_step(self, take: road_lib.Take) -> Callable[..., Any]:
        """`(state, store, item, seed) -> (state, metrics)`; the state's memory is reused.

        Takes as many steps as the item is of; metrics [K] or, of confusions, [K, L, L].
        """
        one = functools.partial(
            train_step.train_step,
            model=self.model,
            tx=self.tx,
            task=self.task,
            scale=self.scale,
            augment=self.augment,
            freeze=self.freeze,
            microbatches=self.step.microbatches,
            remat=self.step.remat,
            images_sharding=self.images_sharding,
        )

        def step_fn(
            state: train_step.TrainState, store: Any, item: Any, seed: jax.Array
        ) -> tuple[train_step.TrainState, dict[str, jax.Array]]:
            if len(jax.tree.leaves(item)[0]) > 1:
                return jax.lax.scan(
                    lambda state, item: one(state, take(store, item), seed), state, item
                )
            state, metrics = one(state, take(store, road_lib.first_step(item)), seed)
            return state, jax.tree.map(lambda x: x[None], metrics)

        # On CPUs Eigen computes the weight gradient of 2D convolutions 2 to 5 times as fast as
        # YNNPACK, XLA's choice; steps gain 1.0 to 1.5 (docs/benchmarks.md). Volumes would lose.
        is_cpu = jax.default_backend() == "cpu"
        options = BY_EIGEN if is_cpu and not self.is_volumetric else None
        return jax.jit(
            step_fn,
            donate_argnums=0,
            out_shardings=self.shardings.replicated,
            compiler_options=options,
        )

    @functools.cached_property
    def eval_step(self) -> Callable[[train_step.TrainState, road_lib.Batch], dict[str, jax.Array]]:
        """The jitted `train_step.eval_step`; compiled once, whatever the split."""
        step_fn = functools.partial(
            train_step.eval_step,
            model=self.model,
            task=self.task,
            scale=self.scale,
            images_sharding=self.images_sharding,
        )
        jitted = jax.jit(step_fn, out_shardings=self.shardings.replicated)
        return distributed.compiled_by_all(jitted)

    @functools.cached_property
    def window_step(self) -> Callable[[train_step.TrainState, road_lib.Batch], jax.Array]:
        """The jitted `train_step.window_step`; compiled once, whatever the volume."""
        step_fn = functools.partial(
            train_step.window_step,
            model=self.model,
            task=self.task,
            scale=self.scale,
            images_sharding=self.images_sharding,
        )
        jitted = jax.jit(step_fn, out_shardings=self.shardings.replicated)
        return distributed.compiled_by_all(jitted)


def make_system(config: mlc.ConfigDict) -> System:
    """Makes everything that doesn't need data.

    Raises:
        ValueError: a field has a value that can't be; the message names field, value and choices.
    """
    require_sensible(config)
    _, settings = settings_lib.split_section(config.data.to_dict(), config.seed)
    shardings = sharding.make_shardings(**config.mesh)
    sharding.require_divisible(settings.batch_size, shardings, "data.batch_size")
    sharding.require_divisible(settings.eval_batch_size, shardings, "data.eval_batch_size")
    resident.require_memory(settings, shardings.replicated.mesh.size)
    step = StepSettings(**config.step)
    if settings.batch_size % (step.microbatches * shardings.num_batch_shards):
        raise ValueError(
            f"step.microbatches: got {step.microbatches}, want a divisor of the "
            f"{settings.batch_size // shardings.num_batch_shards} examples of a batch that each "
            "device has."
        )
    rows = settings.input_shape[-2]
    if rows % shardings.num_space_shards:
        raise ValueError(
            f"mesh.space: got {shardings.num_space_shards}, want a divisor of "
            f"{rows}, the rows of the network's input."
        )
    model = choose(models.MODELS, config.model_name, "model_name")(**config.model)
    system = System(
        model=model,
        task=make_task(config),
        tx=optimizer.make_optimizer(**config.optimizer, freeze=config.freeze),
        **make_input_parts(config, settings),
        control=training_control.Settings(**config.control),
        learning_rate=config.optimizer.learning_rate,
        freeze=config.freeze,
        step=step,
        shardings=shardings,
        settings=settings,
        seed=sharding.put(np.uint32(config.seed), shardings.replicated),
    )
    if config.freeze:
        frozen.require_sensible(system.abstract_params(), config.freeze)
    return system


def make_input_parts(config: mlc.ConfigDict, settings: settings_lib.Settings) -> dict[str, Any]:
    """What differs between images and patches of volumes."""
    if isinstance(settings, settings_lib.PatchSettings):
        amounts = augment_3d.Augment3D(**config.augment)
        return dict(
            scale=functools.partial(preprocess.window_hu, window=tuple(config.window_hu)),
            augment=functools.partial(augment_3d.augment, settings=amounts),
            inference=settings_lib.InferenceSettings(**config.inference),
        )
    amounts = augment.Augment(**config.augment)
    return dict(
        scale=preprocess.min_max_scale,
        augment=functools.partial(augment.augment, settings=amounts),
        inference=None,
    )


def require_sensible(config: mlc.ConfigDict) -> None:
    """Raises ValueError for what would only be noticed hours later, or as a strange shape."""
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
    if "patch_size" in config.data:
        require_window(config.window_hu)
        require_one_region(config)
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"seed: got {config.seed}, want 0 to 2 ** 32 - 1.")


def require_window(window_hu: tuple[float, ...]) -> None:
    """Raises ValueError unless this is a low and a higher Hounsfield unit."""
    are_numbers = all(type(value) in (int, float) for value in window_hu)
    if not are_numbers or len(window_hu) != 2 or not window_hu[0] < window_hu[1]:
        raise ValueError(f"window_hu: got {tuple(window_hu)}, want two numbers, the lower first.")


def require_one_region(config: mlc.ConfigDict) -> None:
    """Raises ValueError if patches, volumes and task look at different things."""
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
    """The config's task."""
    return choose(tasks.TASKS, config.task_name, "task_name")(**config.task)


def choose(choices: dict[str, Any], name: str, field: str) -> Any:
    """`choices[name]`, or a ValueError that lists them."""
    if name not in choices:
        raise ValueError(f"{field}: got {name!r}, want one of {', '.join(choices)}.")
    return choices[name]
