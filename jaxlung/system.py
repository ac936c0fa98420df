"""A config made into objects: network, task, optimizer, and the jitted steps over them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import ml_collections as mlc
import numpy as np
import optax

from jaxlung import (
    frozen,
    models,
    optimizer,
    sharding,
    tasks,
    train_step,
    training_control,
)
from jaxlung.data import augment, datasets, pipeline, record
from jaxlung.data import settings as settings_lib
from jaxlung.tasks import task as task_lib


@dataclasses.dataclass(frozen=True)
class System:
    """What a config describes, ready to compile.

    Attributes:
        model: the network.
        task: what its logits mean.
        tx: the optimizer.
        augmentation: what is varied in training.
        control: when the learning rate falls and when training stops.
        learning_rate: that training starts with.
        freeze: pattern of the parameters that don't train.
        shardings: where arrays live.
        settings: how records become batches.
        seed: [] uint32 on every device.
    """

    model: nn.Module
    task: task_lib.Task
    tx: optax.GradientTransformation
    augmentation: augment.Augment
    control: training_control.Settings
    learning_rate: float
    freeze: str
    shardings: sharding.Shardings
    settings: settings_lib.Settings
    seed: jax.Array

    def init_state(self) -> train_step.TrainState:
        """A fresh state, created where it will live."""
        return jax.jit(self._init_fn(), out_shardings=self.shardings.replicated)(self.seed)

    def abstract_state(self) -> train_step.TrainState:
        """Shapes, types and shardings of the state; computes nothing."""
        shapes = jax.eval_shape(self._init_fn(), self.seed)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.shardings.replicated),
            shapes,
        )

    def abstract_params(self) -> Any:
        """Shapes of the parameters; depends on neither data nor optimizer."""
        size = self.settings.image_size
        images = jax.ShapeDtypeStruct((1, size, size, 1), np.float32)
        masks = jax.ShapeDtypeStruct((1, size, size), np.uint8)

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
            image_size=self.settings.image_size,
            learning_rate=self.learning_rate,
        )

    def jit_train_step(self, take: Callable[[Any, Any], pipeline.Batch]) -> Callable[..., Any]:
        """`(state, store, item, seed) -> (state, metrics)`; the state's memory is reused."""

        def step_fn(
            state: train_step.TrainState, store: Any, item: Any, seed: jax.Array
        ) -> tuple[train_step.TrainState, dict[str, jax.Array]]:
            return train_step.train_step(
                state,
                take(store, item),
                seed,
                model=self.model,
                tx=self.tx,
                task=self.task,
                augmentation=self.augmentation,
                freeze=self.freeze,
                images_sharding=self.shardings.images,
            )

        return jax.jit(step_fn, donate_argnums=0, out_shardings=self.shardings.replicated)

    @functools.cached_property
    def eval_step(self) -> Callable[[train_step.TrainState, pipeline.Batch], dict[str, jax.Array]]:
        """The jitted `train_step.eval_step`; compiled once, whatever the split."""
        step_fn = functools.partial(
            train_step.eval_step,
            model=self.model,
            task=self.task,
            images_sharding=self.shardings.images,
        )
        return jax.jit(step_fn, out_shardings=self.shardings.replicated)


def make_system(config: mlc.ConfigDict) -> System:
    """Makes everything that doesn't need data.

    Raises:
        ValueError: a field has a value that can't be; the message names field, value and choices.
    """
    require_sensible(config)
    _, settings = pipeline.split_section(config.data.to_dict())
    shardings = sharding.make_shardings(**config.mesh)
    sharding.require_divisible(settings.batch_size, shardings, "data.batch_size")
    sharding.require_divisible(settings.eval_batch_size, shardings, "data.eval_batch_size")
    if settings.image_size % shardings.num_space_shards:
        raise ValueError(
            f"mesh.space: got {shardings.num_space_shards}, want a divisor of data.image_size, "
            f"{settings.image_size}."
        )
    model = choose(models.MODELS, config.model_name, "model_name")(**config.model)
    system = System(
        model=model,
        task=make_task(config),
        tx=optimizer.make_optimizer(**config.optimizer, freeze=config.freeze),
        augmentation=augment.Augment(**config.augment),
        control=training_control.Settings(**config.control),
        learning_rate=config.optimizer.learning_rate,
        freeze=config.freeze,
        shardings=shardings,
        settings=settings,
        seed=jax.device_put(np.uint32(config.seed), shardings.replicated),
    )
    if config.freeze:
        frozen.require_sensible(system.abstract_params(), config.freeze)
    return system


def require_sensible(config: mlc.ConfigDict) -> None:
    """Raises ValueError for what would only be noticed hours later, or as a strange shape."""
    for name in ("epochs", "log_every_steps"):
        if config[name] < 1:
            raise ValueError(f"{name}: got {config[name]}, want 1 or more.")
    if config.selection not in ("last", "best"):
        raise ValueError(f"selection: got {config.selection!r}, want one of last, best.")
    if config.model.get("num_classes", 1) != 1:
        raise ValueError(
            f"model.num_classes: got {config.model.num_classes}, want 1; every task has one map."
        )
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"seed: got {config.seed}, want 0 to 2 ** 32 - 1.")


def open_splits(config: mlc.ConfigDict) -> Mapping[str, record.Source]:
    """Opens the config's dataset; see `datasets.open_splits`."""
    fields, _ = pipeline.split_section(config.data.to_dict())
    return datasets.open_splits(fields, needs=make_task(config).needs, seed=config.seed)


def make_task(config: mlc.ConfigDict) -> task_lib.Task:
    """The config's task."""
    return choose(tasks.TASKS, config.task_name, "task_name")(**config.task)


def choose(choices: dict[str, Any], name: str, field: str) -> Any:
    """`choices[name]`, or a ValueError that lists them."""
    if name not in choices:
        raise ValueError(f"{field}: got {name!r}, want one of {', '.join(choices)}.")
    return choices[name]
