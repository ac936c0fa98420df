"""The training and evaluation steps: pure functions of (state, batch, seed)."""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from jaxlung import frozen
from jaxlung.data import augment, pipeline, preprocess
from jaxlung.metrics import overlap
from jaxlung.tasks import task as task_lib

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # of the curves in a report


@flax.struct.dataclass
class TrainState:
    """Everything that training changes.

    Attributes:
        step: [] int32, finished updates.
        params: float32 parameters.
        batch_stats: float32 running statistics of BatchNorm; {} without.
        opt_state: the optimizer's.
        learning_rate: [] float32, of the next update.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    learning_rate: jax.Array


def init_state(
    seed: jax.Array,
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    task: task_lib.Task,
    image_size: int,
    learning_rate: float,
) -> TrainState:
    """A fresh state; parameters depend on `seed` [] uint32 alone."""
    images = jnp.zeros((1, image_size, image_size, 1), jnp.float32)
    masks = jnp.zeros((1, image_size, image_size), jnp.uint8)
    variables = model.init(jax.random.key(seed), task.inputs(images, masks), train=False)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(params),
        learning_rate=jnp.asarray(learning_rate, jnp.float32),
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
    freeze: str,
    images_sharding: NamedSharding,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update.

    Args:
        state: before the update.
        batch: "images" and "masks" [B, S, S], "labels" [B], uint8.
        seed: [] uint32; with `state.step` it gives all randomness of the step.
        freeze: pattern of the parameters that stay as they are, with their statistics.

    Returns:
        The state after the update; the batch's mean "loss", "loss_excess" (the loss above the
        least value that the targets allow) and "grad_norm", [] float32; and its "confusion",
        [L, L] int32, summed over the images, of what the network said before the update.
    """
    rng_augment, rng_dropout = jax.random.split(
        jax.random.fold_in(jax.random.key(seed), state.step)
    )
    images = preprocess.min_max_scale(batch["images"])
    images, masks = augment.augment(images, batch["masks"], rng_augment, augmentation)
    images = jax.lax.with_sharding_constraint(images, images_sharding)
    images = task.inputs(images, masks)
    targets = task.targets(masks, batch["labels"])

    def mean_loss(params: Any) -> tuple[jax.Array, tuple[Any, jax.Array]]:
        with frozen.still_statistics(freeze):
            logits, updated = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": rng_dropout},
            )
        return jnp.mean(task.loss(logits, targets)), (updated.get("batch_stats", {}), logits)

    (loss, aux), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    batch_stats, logits = aux
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    updates = jax.tree.map(lambda update: state.learning_rate * update, updates)
    state = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
        learning_rate=state.learning_rate,
    )
    levels = task.true_levels(masks, batch["labels"])
    preds = task.postprocess(jax.nn.sigmoid(logits))
    metrics = {
        "loss": loss,
        "loss_excess": loss - jnp.mean(task.floor(targets)),
        "grad_norm": optax.tree.norm(grads),
        "confusion": jnp.sum(overlap.confusion(levels, preds, len(task.levels)), axis=0),
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
        batch: "images" and "masks" [B, S, S], "labels" [B], uint8.

    Returns:
        "loss", "loss_excess", "mse", "mae": [B] float32, means over an image's pixels;
        "confusion": [B, L, L] int32 after post-processing, rows the reference;
        "probs": [B, H, W] float32, the raw output; "preds" and "levels": [B, H, W] uint8, after
        post-processing and the reference; "image": [B, S, S] uint8, as given; for binary masks
        "threshold_confusions" too, [B, T, 2, 2] int32 at `THRESHOLDS`.
    """
    images = preprocess.min_max_scale(batch["images"])
    images = jax.lax.with_sharding_constraint(images, images_sharding)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits = model.apply(variables, task.inputs(images, batch["masks"]), train=False)
    targets = task.targets(batch["masks"], batch["labels"])
    probs = jax.nn.sigmoid(logits)
    preds = task.postprocess(probs)
    loss = task.loss(logits, targets)
    levels = task.true_levels(batch["masks"], batch["labels"])
    outputs = {
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
    if task.is_binary_map:
        outputs["threshold_confusions"] = overlap.threshold_confusions(
            levels, probs[..., 0], THRESHOLDS
        )
    return outputs
