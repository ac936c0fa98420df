"""Orbax checkpoints with digests: the latest two and the best; a damaged one is passed over."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jaxlung import distributed, train_step

SELECTIONS = ("last", "best", "best_score")  # best: the lowest validation loss
Progress = dict[str, Any]  # JSON beside the state: what else a resumed run must know


def open_manager(workdir: epath.Path) -> ocp.CheckpointManager:
    """Opens `workdir/checkpoints`, which keeps the latest two steps and the lowest `rank`."""
    keep = preservation_policy.AnyPreservationPolicy(
        [
            preservation_policy.LatestN(2),
            preservation_policy.BestN(
                get_metric_fn=_rank,
                reverse=True,  # It keeps the end of the list: the lowest.
                n=1,
                keep_checkpoints_without_metrics=False,
            ),
        ]
    )
    options = ocp.CheckpointManagerOptions(
        best_fn=_rank,  # Without it the metrics are not written.
        best_mode="min",
        preservation_policy=keep,
        cleanup_tmp_directories=True,  # What a killed run left.
    )
    return ocp.CheckpointManager(workdir / "checkpoints", options=options)


def _rank(metrics: dict[str, float]) -> float:
    return metrics["rank"]


def save(
    manager: ocp.CheckpointManager,
    state: train_step.TrainState,
    progress: Progress,
    rank: float = math.inf,
) -> None:
    """Starts to save `state`; returns as soon as its buffers may be reused.

    Args:
        manager: from `open_manager`.
        state: at a step that has no checkpoint yet.
        progress: JSON values that belong to this step.
        rank: the lower the better: validation loss, or minus the validation score; infinite in
            the middle of an epoch.
    """
    digests = {name: int(digest) for name, digest in jax.device_get(digest_state(state)).items()}
    step = int(jax.device_get(state.step))
    with jax.transfer_guard("allow"):  # Orbax copies to the host in its own way.
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                progress=ocp.args.JsonSave({**progress, "digests": digests}),
            ),
            metrics={"rank": rank},
        )


def restore(
    manager: ocp.CheckpointManager, step: int, like: train_step.TrainState
) -> tuple[train_step.TrainState, Progress]:
    """Reads one checkpoint and holds it against its digests.

    Args:
        manager: from `open_manager`.
        step: one of `manager.all_steps()`.
        like: shapes, types and shardings to restore to; may differ from those saved from.

    Raises:
        ValueError: the checkpoint is damaged, or is of another network.
    """
    args = ocp.args.Composite(state=ocp.args.StandardRestore(like), progress=ocp.args.JsonRestore())
    try:
        restored = manager.restore(step, args=args)
        state, progress = restored["state"], dict(restored["progress"])
        saved_digests = progress.pop("digests")
    # Orbax and TensorStore raise a bare Exception, ValueError, KeyError or OSError on damage.
    except Exception as error:
        if isinstance(error, PermissionError) or "RESOURCE_EXHAUSTED" in str(error):
            raise  # That is no damage.
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"checkpoint {step} can't be read: {reason}") from error
    digests = jax.device_get(digest_state(state))
    for name, digest in digests.items():
        if int(digest) != saved_digests.get(name):
            raise ValueError(f"checkpoint {step}: {name} differs from what was saved.")
    return state, progress


def restore_latest(
    manager: ocp.CheckpointManager, like: train_step.TrainState
) -> tuple[train_step.TrainState, Progress] | None:
    """Reads the newest good checkpoint, naming the damaged ones that it passes over.

    Returns:
        The state and its progress, or None if there is no checkpoint at all.

    Raises:
        ValueError: there are checkpoints, and all are damaged.
    """
    steps = sorted(manager.all_steps(), reverse=True)
    for step in steps:
        try:
            return restore(manager, step, like)
        except ValueError as error:
            logging.warning("%s/%d: %s", manager.directory, step, error)
    if steps:
        raise ValueError(
            f"{manager.directory}: all {len(steps)} checkpoints are damaged; move them away "
            "to begin anew, or choose another --workdir."
        )
    return None


def load_selected(
    workdir: epath.Path, selection: str, like: train_step.TrainState
) -> train_step.TrainState:
    """The checkpoint that `selection`, one of `SELECTIONS`, names.

    Raises:
        ValueError: no good checkpoint.
    """
    with open_manager(workdir) as manager:
        best_step = manager.best_step()
        if selection != "last" and best_step is not None:
            try:
                return restore(manager, best_step, like)[0]
            except ValueError as error:
                logging.warning("%s; using the newest good one in its place", error)
        restored = restore_latest(manager, like)
    if restored is None:
        raise ValueError(f"{workdir}: there is no checkpoint; train first.")
    return restored[0]


def selected_step(selection: str, workdir: epath.Path) -> int | None:
    """The step of the checkpoint that `selection` names; None if there is none."""
    with open_manager(workdir) as manager:
        return manager.latest_step() if selection == "last" else manager.best_step()


def set_aside_newer(manager: ocp.CheckpointManager, step: int) -> None:
    """Moves checkpoints newer than `step` (the damaged ones) to `checkpoints_damaged`."""
    newer_steps = [s for s in manager.all_steps() if s > step and distributed.is_main()]
    for newer in newer_steps:
        target = epath.Path(f"{manager.directory}_damaged") / str(newer)
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            target.rmtree()
        (epath.Path(manager.directory) / str(newer)).rename(target)
        logging.warning("moved the damaged checkpoint %d to %s", newer, target)
    distributed.tell_all(None)  # The others wait until they are moved.
    manager.reload()


@jax.jit
def digest_state(state: train_step.TrainState) -> dict[str, jax.Array]:
    """A checksum of every leaf, computed where the leaf lives.

    Orbax keeps no checksums: zeroed bytes restore silently. Any change of a single 32-bit word
    changes a digest, any other change does with probability 1 - 2 ** -32.

    Returns:
        Leaf path -> [] uint32.
    """
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): _digest(leaf) for path, leaf in leaves}


def _digest(leaf: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * leaf.dtype.itemsize}"))
    words = bits.reshape(-1).astype(jnp.uint32)
    # Odd weights: every one has an inverse modulo 2 ** 32, so no single change cancels out.
    position = jax.lax.iota(jnp.uint32, words.size)
    weights = (2 * position + 1) * jnp.uint32(0x9E3779B1)
    return jnp.sum(words * weights, dtype=jnp.uint32)
