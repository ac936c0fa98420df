"""The training and evaluation steps: pure functions of (state, batch, seed)."""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from jaxlung.data import augment, pipeline, preprocess
from jaxlung.metrics import overlap
from jaxlung.tasks import task as task_lib


@flax.struct.dataclass
class TrainState:
    """Everything that training changes.

    Attributes:
        step: [] int32, finished updates.
        params: float32 parameters.
        batch_stats: float32 running statistics of BatchNorm; {} without.
        opt_state: the optimizer's.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any


def init_state(
    seed: jax.Array, *, model: nn.Module, tx: optax.GradientTransformation, image_size: int
) -> TrainState:
    """A fresh state; parameters depend on `seed` [] uint32 alone."""
    images = jnp.zeros((1, image_size, image_size, 1), jnp.float32)
    variables = model.init(jax.random.key(seed), images, train=False)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(params),
    )


def train_step(
    state: TrainState,
    batch: pipeline.Batch,
    seed: jax.Array,
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    task: task_lib.Task,
    augmentation: augment.Augment,
    images_sharding: NamedSharding,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update.

    Args:
        state: before the update.
        batch: "images" and "masks", [B, S, S] uint8.
        seed: [] uint32; with `state.step` it gives all randomness of the step.

    Returns:
        The state after the update; and, all [] float32, the batch's mean "loss", "loss_excess"
        (the loss above the least value that the targets allow) and "grad_norm".
    """
    rng_augment, rng_dropout = jax.random.split(
        jax.random.fold_in(jax.random.key(seed), state.step)
    )
    images = preprocess.min_max_scale(batch["images"])
    images, masks = augment.augment(images, batch["masks"], rng_augment, augmentation)
    images = jax.lax.with_sharding_constraint(images, images_sharding)
    targets = task.targets(masks)

    def mean_loss(params: Any) -> tuple[jax.Array, Any]:
        logits, updated = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": rng_dropout},
        )
        return jnp.mean(task.loss(logits, targets)), updated.get("batch_stats", {})

    (loss, batch_stats), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    state = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    metrics = {
        "loss": loss,
        "loss_excess": loss - jnp.mean(task.floor(targets)),
        "grad_norm": optax.tree.norm(grads),
    }
    return state, metrics


def eval_step(
    state: TrainState,
    batch: pipeline.Batch,
    *,
    model: nn.Module,
    task: task_lib.Task,
    images_sharding: NamedSharding,
) -> dict[str, jax.Array]:
    """Scores of every image of a batch, with running statistics.

    Args:
        state: the network.
        batch: "images" and "masks", [B, S, S] uint8.

    Returns:
        "loss", "loss_excess", "mse", "mae": [B] float32, means over an image's pixels;
        "confusion": [B, L, L] int32 after post-processing, rows the reference;
        "probs": [B, S, S] float32, the raw output; "preds" and "levels": [B, S, S] uint8, after
        post-processing and the reference; "image": [B, S, S] uint8, as given.
    """
    images = preprocess.min_max_scale(batch["images"])
    images = jax.lax.with_sharding_constraint(images, images_sharding)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits = model.apply(variables, images, train=False)
    targets = task.targets(batch["masks"])
    probs = jax.nn.sigmoid(logits)
    preds = task.postprocess(probs)
    loss = task.loss(logits, targets)
    levels = task.true_levels(batch["masks"])
    return {
        "loss": loss,
        "loss_excess": loss - task.floor(targets),
        "mse": jnp.mean((probs - targets) ** 2, axis=(1, 2, 3)),
        "mae": jnp.mean(jnp.abs(probs - targets), axis=(1, 2, 3)),
        "confusion": overlap.confusion(levels, preds, len(task.levels)),
        "probs": probs[..., 0],
        "preds": preds,
        "levels": levels,
        "image": batch["images"],
    }
