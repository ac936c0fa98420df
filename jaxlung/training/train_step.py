"""The training and evaluation steps: pure functions of (state, batch, seed)."""

import functools
from collections.abc import Callable
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from jaxlung.data.feed import feed as feed_lib
from jaxlung.losses import deep_supervision
from jaxlung.metrics import overlap
from jaxlung.tasks import task as task_lib
from jaxlung.training import frozen

Scale = Callable[[jax.Array], jax.Array]  # as stored, to [..., 1] float32 in [0, 1]
Augment = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
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
    input_shape: tuple[int, ...],
    learning_rate: float,
) -> TrainState:
    """A fresh state; parameters depend on `seed` [] uint32 alone."""
    images = jnp.zeros((1, *input_shape, 1), jnp.float32)
    masks = jnp.zeros((1, *input_shape), jnp.uint8)
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
    batch: feed_lib.Batch,
    seed: jax.Array,
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    task: task_lib.Task,
    scale: Scale,
    augment: Augment,
    freeze: str,
    microbatches: int,
    remat: bool,
    images_sharding: NamedSharding,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update.

    Args:
        state: before the update.
        batch: see `feed.Batch`.
        seed: [] uint32; with `state.step` it gives all randomness of the step.
        scale: makes what is stored the network's.
        augment: images, masks, key -> both, changed.
        freeze: pattern of the parameters that stay as they are, with their statistics.
        microbatches: equal parts of the batch, computed one after the other, whose gradients are
            averaged; BatchNorm's statistics are those of each part. Saves memory on accelerators.
        remat: keep only what convolutions and dense layers return, and compute the rest again for
            the gradient. Saves memory on accelerators; XLA undoes it on CPUs.

    Returns:
        The state after the update; the batch's mean "loss", "loss_excess" (the loss above the
        least value that the targets allow) and "grad_norm", [] float32; and its "confusion",
        [L, L] int32, summed over the images, of what the network said before the update.
    """
    rng = jax.random.fold_in(jax.random.key(seed), state.step)
    part = functools.partial(
        part_step,
        state.params,
        model=model,
        task=task,
        scale=scale,
        augment=augment,
        freeze=freeze,
        remat=remat,
        images_sharding=images_sharding,
    )
    parts = part if microbatches == 1 else functools.partial(_over_parts, part, microbatches)
    batch_stats, (grads, metrics) = parts(state.batch_stats, rng, batch)
    # XLA may leave some cut; then parameters and both moments would be gathered in their place.
    everywhere = NamedSharding(images_sharding.mesh, PartitionSpec())
    grads = jax.lax.with_sharding_constraint(grads, everywhere)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    updates = jax.tree.map(lambda update: state.learning_rate * update, updates)
    state = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
        learning_rate=state.learning_rate,
    )
    return state, metrics | {"grad_norm": optax.tree.norm(grads)}


def part_step(
    params: Any,
    batch_stats: Any,
    rng: jax.Array,
    batch: feed_lib.Batch,
    *,
    model: nn.Module,
    task: task_lib.Task,
    scale: Scale,
    augment: Augment,
    freeze: str,
    remat: bool,
    images_sharding: NamedSharding,
) -> tuple[Any, tuple[Any, dict[str, jax.Array]]]:
    """Forward and backward over a part of a batch; see `train_step`.

    Returns:
        The statistics after it; its gradients; its "loss", "loss_excess" and "confusion".
    """
    rng_augment, rng_dropout = jax.random.split(rng)
    varied = augment(scale(batch["images"]), batch["masks"], rng_augment)
    # Whole on every device that shares them: moving pixels across a cut would be communication.
    whole = NamedSharding(images_sharding.mesh, PartitionSpec(images_sharding.spec[0]))
    images, masks = jax.lax.with_sharding_constraint(varied, whole)
    images = task.inputs(jax.lax.with_sharding_constraint(images, images_sharding), masks)
    targets = task.targets(masks, batch["labels"])

    def apply(params: Any) -> tuple[Any, dict[str, Any]]:
        with frozen.still_statistics(freeze):
            return model.apply(
                {"params": params, "batch_stats": batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": rng_dropout},
            )

    def mean_loss(params: Any) -> tuple[jax.Array, tuple[Any, jax.Array]]:
        run = jax.checkpoint(apply, policy=_is_product) if remat else apply
        outputs, updated = run(params)
        loss = jnp.mean(deep_supervision.weighted(task.loss, outputs, targets))
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return loss, (updated.get("batch_stats", {}), logits)

    (loss, aux), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
    batch_stats, logits = aux
    levels = task.true_levels(masks, batch["labels"])
    preds = task.postprocess(jax.nn.sigmoid(logits))
    metrics = {
        "loss": loss,
        "loss_excess": loss - jnp.mean(task.floor(targets)),
        "confusion": jnp.sum(overlap.confusion(levels, preds, len(task.levels)), axis=0),
    }
    return batch_stats, (grads, metrics)


def _over_parts(
    part: Callable[..., Any], count: int, batch_stats: Any, rng: jax.Array, batch: feed_lib.Batch
) -> tuple[Any, tuple[Any, dict[str, jax.Array]]]:
    """`part` over `count` parts of a batch: last statistics, mean gradients, metrics of all."""

    def split(array: jax.Array) -> jax.Array:
        # Every count-th row, so that each device has as many rows of every part.
        return jnp.moveaxis(array.reshape(-1, count, *array.shape[1:]), 1, 0)

    def add_part(carry: Any, item: Any) -> tuple[Any, None]:
        batch_stats, total = carry
        batch_stats, sums = part(batch_stats, jax.random.fold_in(rng, item[0]), item[1])
        return (batch_stats, jax.tree.map(jnp.add, total, sums)), None

    parts = (jnp.arange(count), jax.tree.map(split, batch))
    shapes = jax.eval_shape(part, batch_stats, rng, jax.tree.map(lambda x: x[0], parts[1]))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[1])
    # CPUs take 9 times as long for what is inside a loop; without one they save no memory.
    unroll = count if jax.default_backend() == "cpu" else 1
    carry, _ = jax.lax.scan(add_part, (batch_stats, zeros), parts, unroll=unroll)
    batch_stats, (grads, metrics) = carry
    means = {name: metrics[name] / count for name in ("loss", "loss_excess")}
    return batch_stats, (jax.tree.map(lambda x: x / count, grads), metrics | means)


def _is_product(primitive: Any, *_: Any, **__: Any) -> bool:
    """What `remat` keeps: results of convolutions and matrix products."""
    return primitive.name in ("conv_general_dilated", "dot_general")


def eval_step(
    state: TrainState,
    batch: feed_lib.Batch,
    *,
    model: nn.Module,
    task: task_lib.Task,
    scale: Scale,
    images_sharding: NamedSharding,
) -> dict[str, jax.Array]:
    """Scores of every image of a batch, with running statistics.

    Args:
        state: the network.
        batch: see `feed.Batch`.
        scale: makes what is stored the network's.

    Returns:
        "loss", "loss_excess", "mse", "mae": [B] float32, means over an image's pixels;
        "confusion": [B, L, L] int32 after post-processing, rows the reference;
        "probs": [B, H, W] float32, the raw output; "preds" and "levels": [B, H, W] uint8, after
        post-processing and the reference; "image": [B, S, S] uint8, as given; for binary masks
        "threshold_confusions" too, [B, T, 2, 2] int32 at `THRESHOLDS`.
    """
    logits = _logits(state, batch, model, task, scale, images_sharding)
    targets = task.targets(batch["masks"], batch["labels"])
    probs = jax.nn.sigmoid(logits)
    preds = task.postprocess(probs)
    loss = task.loss(logits, targets)
    levels = task.true_levels(batch["masks"], batch["labels"])
    outputs = {
        "loss": loss,
        "loss_excess": loss - task.floor(targets),
        "mse": jnp.mean((probs - targets) ** 2, axis=tuple(range(1, probs.ndim))),
        "mae": jnp.mean(jnp.abs(probs - targets), axis=tuple(range(1, probs.ndim))),
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


def window_step(
    state: TrainState,
    batch: feed_lib.Batch,
    *,
    model: nn.Module,
    task: task_lib.Task,
    scale: Scale,
    images_sharding: NamedSharding,
) -> jax.Array:
    """Probabilities of windows of a volume, with running statistics.

    Args:
        state: the network.
        batch: "images" [B, D, H, W] int16 HU, "masks" uint8.

    Returns:
        [B, D, H, W] float32.
    """
    return jax.nn.sigmoid(_logits(state, batch, model, task, scale, images_sharding))[..., 0]


def _logits(
    state: TrainState,
    batch: feed_lib.Batch,
    model: nn.Module,
    task: task_lib.Task,
    scale: Scale,
    images_sharding: NamedSharding,
) -> jax.Array:
    """The network's, with running statistics."""
    images = jax.lax.with_sharding_constraint(scale(batch["images"]), images_sharding)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return model.apply(variables, task.inputs(images, batch["masks"]), train=False)
