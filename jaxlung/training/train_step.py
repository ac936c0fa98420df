"""The training and evaluation steps: pure functions of (state, batch, seed)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from jaxlung.data.feed import feed as feed_lib
from jaxlung.losses import deep_supervision
from jaxlung.metrics import overlap
from jaxlung.models import network, normalization
from jaxlung.parallel import sharding
from jaxlung.tasks import task as task_lib
from jaxlung.training import optimizer

Scale = Callable[[jax.Array], jax.Array]  # stored pixels -> [..., 1] float32 in [0, 1]
Augment = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # of the curves in a report
# New batch statistics, then what is summed over the parts of a batch: gradients and metrics.
PartResult = tuple[Any, tuple[Any, dict[str, jax.Array]]]


@flax.struct.dataclass
class TrainState:
    """Everything that training changes.

    Attributes:
        step: [] int32, number of finished updates.
        params: float32 parameters.
        batch_stats: float32 running statistics of BatchNorm; {} for a network without it.
        opt_state: state of the optimizer.
        learning_rate: [] float32, learning rate of the next update, without its schedule.
        average: "params" and "batch_stats", averaged over the last steps; {} if they aren't.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    learning_rate: jax.Array
    average: Any

    @property
    def network(self) -> dict[str, Any]:
        """The "params" and "batch_stats" that are scored, exported and passed on."""
        network: dict[str, Any] = self.average or {
            "params": self.params,
            "batch_stats": self.batch_stats,
        }
        return network


@dataclasses.dataclass(frozen=True)
class Step:
    """The computation of one batch. Its methods are pure functions, to be called inside jit.

    Attributes:
        model: the network.
        task: what its logits mean.
        temperature: number that logits are divided by to become probabilities (Guo et al., 2017,
            section 4.2); 1 leaves them as they are. The loss is that of the logits themselves.
        tx: the optimizer.
        scale: turns stored pixels into the network's input.
        augment: (images, masks, key) -> images and masks, randomly changed.
        average_decay: see `optimizer.Settings`.
        freeze: pattern of the parameters that keep their values, and their statistics with them;
            "" for none.
        microbatches: number of equal parts of a batch that are computed one after the other and
            whose gradients are averaged. BatchNorm uses the statistics of each part. Saves memory
            on accelerators.
        remat: keep only the results of convolutions and dense layers for the backward pass, and
            compute the rest again. Saves memory on accelerators; XLA undoes it on CPUs.
        images_sharding: where the network's inputs live.
    """

    model: network.Network
    task: task_lib.Task
    temperature: float
    tx: optax.GradientTransformation
    scale: Scale
    augment: Augment
    average_decay: float
    freeze: str
    microbatches: int
    remat: bool
    images_sharding: NamedSharding

    def init(
        self, seed: jax.Array, input_shape: tuple[int, ...], learning_rate: float
    ) -> TrainState:
        """Returns a fresh state; its parameters depend on `seed` [] uint32 alone."""
        variables = self.init_variables(seed, input_shape)
        network = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            **network,
            opt_state=self.tx.init(network["params"]),
            learning_rate=jnp.asarray(learning_rate, jnp.float32),
            average=network if self.average_decay else {},
        )

    def init_variables(self, seed: jax.Array, input_shape: tuple[int, ...]) -> dict[str, Any]:
        """Returns fresh "params" and, of networks with BatchNorm, "batch_stats"."""
        images = jnp.zeros((1, *input_shape, 1), jnp.float32)
        masks = jnp.zeros((1, *input_shape), jnp.uint8)
        inputs = self.task.inputs(images, masks)
        return dict(self.model.init(jax.random.key(seed), inputs, train=False))

    def train(
        self,
        state: TrainState,
        batch: feed_lib.Batch,
        seed: jax.Array,
        schedule: optimizer.Schedule,
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Makes one update.

        Args:
            state: state before the update.
            batch: see `feed.Batch`.
            seed: [] uint32; together with `state.step` it determines all randomness of the step.
            schedule: share of the learning rate, from the number of finished updates.

        Returns:
            The state after the update, and metrics of the network before it: the batch's mean
            "loss", "loss_excess" (the loss above the least value that the targets allow) and
            "grad_norm", [] float32, and its "confusion" [L, L] int32, summed over the images;
            "schedule", [] float32, the share of the learning rate of this update.
        """
        rng = jax.random.fold_in(jax.random.key(seed), state.step)

        def part(batch_stats: Any, rng: jax.Array, batch: feed_lib.Batch) -> PartResult:
            return self.differentiate(state.params, batch_stats, rng, batch)

        if self.microbatches == 1:
            batch_stats, (grads, metrics) = part(state.batch_stats, rng, batch)
        else:
            # CPUs take 9 times as long for what is inside a loop; without one they save no memory.
            unroll = sharding.platform_of(self.images_sharding) == "cpu"
            batch_stats, (grads, metrics) = _over_parts(
                part, self.microbatches, state.batch_stats, rng, batch, unroll=unroll
            )
        # XLA may leave some gradients sharded, and gather the parameters and both moments instead.
        everywhere = NamedSharding(self.images_sharding.mesh, PartitionSpec())
        grads = jax.lax.with_sharding_constraint(grads, everywhere)
        grads = jax.lax.platform_dependent(grads, cuda=_in_order, default=lambda grads: grads)
        updates, opt_state = self.tx.update(grads, state.opt_state, state.params)
        share = jnp.asarray(schedule(state.step), jnp.float32)
        rate = state.learning_rate * share
        updates = jax.tree.map(lambda update: rate * update, updates)
        params = optax.apply_updates(state.params, updates)
        state = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            learning_rate=state.learning_rate,
            average=self.next_average(state, params, batch_stats),
        )
        return state, metrics | {"grad_norm": optax.tree.norm(grads), "schedule": share}

    def next_average(self, state: TrainState, params: Any, batch_stats: Any) -> Any:
        """Returns the average network after an update; {} if none is kept.

        Parameters and the statistics of every batch are averaged with the same decay. It grows
        from 0.1 at first, `(1 + step) / (10 + step)`, so that the average soon forgets the start
        (as TensorFlow's ExponentialMovingAverage; that of statistics is our choice). The running
        statistics would lag behind by another ten steps.

        Args:
            state: state before the update.
            params: parameters after it.
            batch_stats: running statistics after it.
        """
        if not state.average:
            return {}
        step = state.step.astype(jnp.float32)
        decay = jnp.minimum(self.average_decay, (1 + step) / (10 + step))
        # A running statistic r becomes r + (1 - m) (b - r) for each part of a batch, so that of the
        # whole batch is b. Differences keep frozen values as they are, to the bit.
        weight = 1 - normalization.MOMENTUM**self.microbatches
        seen = jax.tree.map(
            lambda old, new: old + (new - old) / weight, state.batch_stats, batch_stats
        )
        return jax.tree.map(
            lambda average, now: average + (1 - decay) * (now - average),
            state.average,
            {"params": params, "batch_stats": seen},
        )

    def differentiate(
        self, params: Any, batch_stats: Any, rng: jax.Array, batch: feed_lib.Batch
    ) -> PartResult:
        """Runs the network forward and backward on one part of a batch.

        Returns:
            The statistics after it, the gradients, and "loss", "loss_excess" and "confusion" as
            `train` returns them.
        """
        rng_augment, rng_dropout = jax.random.split(rng)
        varied = self.augment(self.scale(batch["images"]), batch["masks"], rng_augment)
        # Whole on every device that shares them: moving pixels across a cut would be communication.
        whole = NamedSharding(
            self.images_sharding.mesh, PartitionSpec(self.images_sharding.spec[0])
        )
        images, masks = jax.lax.with_sharding_constraint(varied, whole)
        images = jax.lax.with_sharding_constraint(images, self.images_sharding)
        inputs = self.task.inputs(images, masks)
        targets = self.task.targets(masks, batch["labels"])

        def apply(params: Any) -> tuple[Any, Any]:
            with optimizer.still_statistics(self.freeze):
                return self.model.apply(
                    {"params": params, "batch_stats": batch_stats},
                    inputs,
                    train=True,
                    mutable=["batch_stats"],
                    rngs={"dropout": rng_dropout},
                )

        def mean_loss(params: Any) -> tuple[jax.Array, tuple[Any, jax.Array]]:
            run = jax.checkpoint(apply, policy=_is_product) if self.remat else apply
            outputs, updated = run(params)
            loss = jnp.mean(deep_supervision.weighted(self.task.loss, outputs, targets))
            logits = outputs[0] if isinstance(outputs, tuple) else outputs
            return loss, (updated.get("batch_stats", {}), logits)

        (loss, aux), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
        batch_stats, logits = aux
        levels = self.task.true_levels(masks, batch["labels"])
        preds = self.task.postprocess(self.probs(logits))
        metrics = {
            "loss": loss,
            "loss_excess": loss - jnp.mean(self.task.floor(targets)),
            "confusion": jnp.sum(overlap.confusion(levels, preds, len(self.task.levels)), axis=0),
        }
        return batch_stats, (grads, metrics)

    def validate(self, state: TrainState, batch: feed_lib.Batch) -> dict[str, jax.Array]:
        """Scores every image of a batch, with running statistics; returns no pixels.

        Args:
            state: state whose network is scored.
            batch: see `feed.Batch`.

        Returns:
            "loss", "loss_excess", "confusion" as `evaluate` returns them.
        """
        return self._score(state, batch)[0]

    def evaluate(self, state: TrainState, batch: feed_lib.Batch) -> dict[str, jax.Array]:
        """Scores every image of a batch, with running statistics.

        Args:
            state: state whose network is scored.
            batch: see `feed.Batch`.

        Returns:
            "loss", "loss_excess", "mse", "mae": [B] float32, means over an image's pixels;
            "confusion": [B, L, L] int32 after post-processing, rows the reference;
            "probs": [B, H, W] float32, the raw output; "preds" and "levels": [B, H, W] uint8, the
            levels after post-processing and those of the reference; "image": [B, S, S] uint8, as
            given; for binary masks also "threshold_confusions": [B, T, 2, 2] int32 at `THRESHOLDS`;
            with a temperature also "probs_before": [B, H, W] float32, "probs" without it.
        """
        scores, maps = self._score(state, batch)
        targets, logits, probs, preds, levels = maps
        outputs = scores | {
            "mse": jnp.mean((probs - targets) ** 2, axis=tuple(range(1, probs.ndim))),
            "mae": jnp.mean(jnp.abs(probs - targets), axis=tuple(range(1, probs.ndim))),
            "probs": probs[..., 0],
            "preds": preds,
            "levels": levels,
            "image": batch["images"],
        }
        if self.task.is_binary_map:
            outputs["threshold_confusions"] = overlap.threshold_confusions(
                levels, probs[..., 0], THRESHOLDS
            )
        if self.temperature != 1:
            outputs["probs_before"] = jax.nn.sigmoid(logits)[..., 0]
        return outputs

    def _score(
        self, state: TrainState, batch: feed_lib.Batch
    ) -> tuple[dict[str, jax.Array], tuple[jax.Array, ...]]:
        """Returns what `validate` returns, and the maps: targets, logits, probs, preds, levels."""
        task, logits = self.task, self._logits(state, batch)
        targets = task.targets(batch["masks"], batch["labels"])
        probs = self.probs(logits)
        preds = task.postprocess(probs)
        loss = task.loss(logits, targets)
        levels = task.true_levels(batch["masks"], batch["labels"])
        scores = {
            "loss": loss,
            "loss_excess": loss - task.floor(targets),
            "confusion": overlap.confusion(levels, preds, len(task.levels)),
        }
        return scores, (targets, logits, probs, preds, levels)

    def predict(self, state: TrainState, batch: feed_lib.Batch) -> jax.Array:
        """Returns the network's raw output for images or windows of volumes.

        Args:
            state: state whose network predicts, with its running statistics.
            batch: "images" [B, H, W] uint8 or [B, D, H, W] int16 HU, and "masks" uint8.

        Returns:
            float32 in [0, 1] of the images' shape; [B, 1, 1] for a task without maps.
        """
        return self.probs(self._logits(state, batch))[..., 0]

    def logits(self, state: TrainState, batch: feed_lib.Batch) -> jax.Array:
        """Returns the logits behind `predict`, float32 of the same shape, without temperature."""
        return self._logits(state, batch)[..., 0]

    def compare(self, state: TrainState, batch: feed_lib.Batch) -> dict[str, jax.Array]:
        """Returns "logits" float32 and the reference "levels" uint8 of a batch, [B, H, W] both."""
        levels = self.task.true_levels(batch["masks"], batch["labels"])
        return {"logits": self.logits(state, batch), "levels": levels}

    def probs(self, logits: jax.Array) -> jax.Array:
        """Returns the network's output for its logits: float32 in [0, 1], of the same shape."""
        # No division by 1: a program without a temperature is the same as before there were any.
        return jax.nn.sigmoid(logits if self.temperature == 1 else logits / self.temperature)

    def _logits(self, state: TrainState, batch: feed_lib.Batch) -> jax.Array:
        images = jax.lax.with_sharding_constraint(self.scale(batch["images"]), self.images_sharding)
        inputs = self.task.inputs(images, batch["masks"])
        logits: Any = self.model.apply(
            state.network, inputs, train=False
        )  # No tuple outside training.
        return logits


def _in_order(grads: Any) -> Any:
    """Returns the gradients, stored in the order of their axes.

    cuDNN's gradients of kernels have another order. If the optimizer turned them around as it reads
    them, it could not work in place, and XLA would copy parameters and both moments. A flat array
    has a single order.
    """
    flat = jax.lax.optimization_barrier(jax.tree.map(jnp.ravel, grads))
    return jax.tree.map(lambda flat, grad: flat.reshape(grad.shape), flat, grads)


def _over_parts(
    part: Callable[..., Any],
    count: int,
    batch_stats: Any,
    rng: jax.Array,
    batch: feed_lib.Batch,
    *,
    unroll: bool,
) -> tuple[Any, tuple[Any, dict[str, jax.Array]]]:
    """Runs `part` on `count` parts of a batch in turn, in a loop unless `unroll`.

    See `Step.train` for what it returns.
    """

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
    carry, _ = jax.lax.scan(add_part, (batch_stats, zeros), parts, unroll=unroll)
    batch_stats, (grads, metrics) = carry
    means = {name: metrics[name] / count for name in ("loss", "loss_excess")}
    return batch_stats, (jax.tree.map(lambda x: x / count, grads), metrics | means)


def _is_product(primitive: Any, *_: Any, **__: Any) -> bool:
    """Returns whether `remat` keeps a result: those of convolutions and matrix products."""
    return primitive.name in ("conv_general_dilated", "dot_general")
