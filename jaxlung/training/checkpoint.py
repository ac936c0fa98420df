"""Saves and restores Orbax checkpoints with digests; keeps the latest two and the best."""

import concurrent.futures
import contextlib
import dataclasses
import errno
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jaxlung.parallel import distributed
from jaxlung.training import checkpoint_notes as notes_lib
from jaxlung.training import train_step

SELECTIONS = ("last", "best", "best_score")  # best: the lowest validation loss
# Copies a state on its own devices.
COPY = distributed.Program(jax.jit(lambda state: jax.tree.map(jnp.copy, state)))
_WEIGHTS = 2 * np.arange(1 << 14, dtype=np.uint32) + 1  # A block that stays in a CPU's cache.
# In messages of JAX and TensorStore about trouble of the machine, not damage of a file.
_TROUBLE = ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNAVAILABLE", "DEADLINE_EXCEEDED")


@dataclasses.dataclass
class _LatestAndBest(preservation_policy.PreservationPolicy):
    """A policy that keeps the latest two steps and the one of the lowest rank.

    Attributes:
        ranks: ranks by step of the checkpoints that existed when the manager was opened.
    """

    ranks: dict[int, float | None]

    def should_preserve(
        self,
        checkpoints: Sequence[preservation_policy.PolicyCheckpointInfo],
        *,
        context: preservation_policy.PreservationContext,
    ) -> list[bool]:
        saved = {info.step: _rank(info.metrics) for info in checkpoints if info.metrics}
        steps = sorted(info.step for info in checkpoints)
        ranks = {step: rank for step, rank in (self.ranks | saved).items() if step in steps}
        kept = {*steps[-2:], notes_lib.find_best(ranks)}
        return [info.step in kept for info in checkpoints]


def _rank(metrics: dict[str, float]) -> float:
    return metrics["rank"]


def open_manager(workdir: epath.Path, *, to_save: bool = True) -> ocp.CheckpointManager:
    """Opens `workdir/checkpoints`, which keeps the latest two steps and the one of lowest rank.

    Args:
        workdir: folder of the run.
        to_save: make the folder, and remove what a killed run left half-written. If False,
            nothing is written.
    """
    folder = epath.Path(workdir).expanduser().resolve() / "checkpoints"  # Orbax wants it absolute.
    options = ocp.CheckpointManagerOptions(
        # Also writes the rank where Orbax's own tools look for it; nothing here reads it there.
        best_fn=_rank,
        best_mode="min",
        lightweight_initialize=True,
        preservation_policy=_LatestAndBest(load_ranks(folder)),
        create=to_save,
        cleanup_tmp_directories=to_save,
    )
    return ocp.CheckpointManager(folder, options=options)


def load_ranks(folder: epath.Path) -> dict[int, float | None]:
    """Returns the rank of every checkpoint in `folder`; None for one that can't be read."""
    ranks: dict[int, float | None] = {}
    for step in _steps(folder):
        ranks[step] = None
        with contextlib.suppress(notes_lib.Damaged):
            ranks[step] = notes_lib.load(folder / str(step)).rank
    return ranks


def _steps(folder: epath.Path) -> list[int]:
    """Lists the steps of finished checkpoints; half-written ones have other names."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def save(
    manager: ocp.CheckpointManager,
    state: train_step.TrainState,
    progress: notes_lib.Progress,
    rank: float = math.inf,
) -> None:
    """Starts to save `state`; returns when it is on the host, so that its buffers may be reused.

    Args:
        manager: manager from `open_manager`.
        state: state to save, at a step that has no checkpoint yet.
        progress: JSON values that belong to this step.
        rank: validation loss, or minus the validation score, so that lower is better; infinite
            in the middle of an epoch.
    """
    digests = digest_state(state)
    leaves = {
        name: notes_lib.Leaf(digests[name], str(leaf.dtype), tuple(leaf.shape))
        for name, leaf in _named_leaves(state).items()
    }
    notes = notes_lib.to_json(notes_lib.Notes(progress, rank, leaves))
    step = int(jax.device_get(state.step))
    # Orbax copies to the host in its own way.
    with jax.transfer_guard("allow"), _naming_folder(manager):
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_to_tree(state)), progress=ocp.args.JsonSave(notes)
            ),
            metrics={"rank": rank},
        )


class Saver:
    """Saves checkpoints in a thread of its own, while training goes on.

    It takes a copy of the state on the device, whose own memory the next step reuses: training
    waits neither for the transfer to the host, nor for the digests, nor for the disk.

    Args:
        manager: manager from `open_manager`.
        pool: pool of one thread.

    Attributes:
        manager: the manager.
    """

    def __init__(
        self, manager: ocp.CheckpointManager, pool: concurrent.futures.ThreadPoolExecutor
    ) -> None:
        self.manager = manager
        self._pool = pool
        self._saving: concurrent.futures.Future[None] | None = None

    def save(
        self,
        state: train_step.TrainState,
        progress: notes_lib.Progress,
        rank: float = math.inf,
    ) -> None:
        """Starts to save `state`, after the checkpoint before it; see the function `save`.

        Args:
            state: state to save.
            progress: JSON values that belong to this step, which nothing changes any more.
            rank: see `save`.

        Raises:
            OSError: the checkpoint before it can't be written; the message names the folder.
        """
        self.wait()
        if jax.process_count() > 1:
            # All processes must come to Orbax's collectives and those of steps in the same order.
            save(self.manager, state, progress, rank)
        else:
            self._saving = self._pool.submit(save, self.manager, COPY(state), progress, rank)

    def wait(self) -> None:
        """Waits until Orbax has all of the last state; raises its errors."""
        if self._saving:
            self._saving.result()


@contextlib.contextmanager
def open_to_save(workdir: epath.Path) -> Iterator[Saver]:
    """Opens a saver, and at the end waits until all checkpoints are on disk.

    Raises:
        OSError: a checkpoint can't be written; the message names the folder.
    """
    manager = open_manager(workdir)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        saver = Saver(manager, pool)
        try:
            yield saver
            saver.wait()
        except BaseException:
            with contextlib.suppress(Exception):
                saver.wait()
            with contextlib.suppress(Exception):  # It raises a failed save again.
                manager.close()
            raise
    with _naming_folder(manager):
        manager.close()


@contextlib.contextmanager
def _naming_folder(manager: ocp.CheckpointManager) -> Iterator[None]:
    """Adds the folder to errors that other threads raise when they can't write."""
    try:
        yield
    except Exception as error:  # OSError, or TensorStore's ValueError.
        full = os.strerror(errno.ENOSPC)
        reason = full if full in str(error) else str(error).splitlines()[0][:200]
        raise OSError(f"{manager.directory}: can't save a checkpoint: {reason}") from error


def restore(
    manager: ocp.CheckpointManager, step: int, like: train_step.TrainState
) -> tuple[train_step.TrainState, notes_lib.Progress]:
    """Reads one checkpoint and checks it against its digests.

    Args:
        manager: manager from `open_manager`.
        step: one of `manager.all_steps()`.
        like: shapes, types and shardings to restore; the shardings may differ from those saved.

    Raises:
        notes.Damaged: the checkpoint differs from what was saved.
        ValueError: the checkpoint is of another network, or has other types.
    """
    notes = notes_lib.load(manager.directory / str(step))
    _require_fits(f"{manager.directory}/{step}", notes.leaves, like)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(_to_tree(like)))
    try:
        state = dataclasses.replace(like, **manager.restore(step, args=args)["state"])
    # Orbax and TensorStore raise a bare Exception, ValueError, KeyError or OSError on damage.
    except Exception as error:
        if isinstance(error, PermissionError | MemoryError) or any(
            sign in str(error) for sign in _TROUBLE
        ):
            raise
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise notes_lib.Damaged(f"it can't be read: {reason}") from error
    for name, digest in digest_state(state).items():
        if digest != notes.leaves[name].digest:
            raise notes_lib.Damaged(f"{name} differs from what was saved")
    if int(jax.device_get(state.step)) != step:
        raise notes_lib.Damaged(f"it holds step {int(jax.device_get(state.step))}")
    return state, notes.progress


def _to_tree(state: train_step.TrainState) -> dict[str, Any]:
    """Returns what Orbax saves: the fields of a state, without an average that isn't kept.

    Runs of earlier versions knew no average, and Orbax compares even what is empty.
    """
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    if not state.average:
        del fields["average"]
    return fields


def _require_fits(
    where: str, leaves: Mapping[str, notes_lib.Leaf], like: train_step.TrainState
) -> None:
    """Raises ValueError if the saved arrays don't have the names, shapes and types of `like`."""
    wanted = _named_leaves(like)
    for name in sorted(leaves.keys() | wanted.keys()):
        if name not in leaves or name not in wanted:
            place = "not there" if name in wanted else "there and not here"
            raise ValueError(f"{where}: it is of another network or optimizer: {name} is {place}.")
        saved, leaf = leaves[name], wanted[name]
        if saved.shape not in (None, tuple(leaf.shape)):
            raise ValueError(
                f"{where}: it is of another network: {name} is {saved.shape} there and "
                f"{tuple(leaf.shape)} here."
            )
        if saved.dtype not in ("", str(leaf.dtype)):
            hint = "; unset JAX_ENABLE_X64" if "64" in str(leaf.dtype) else ""
            raise ValueError(f"{where}: {name} is {saved.dtype} there and {leaf.dtype} here{hint}.")


def restore_latest(
    manager: ocp.CheckpointManager, like: train_step.TrainState
) -> tuple[train_step.TrainState, notes_lib.Progress] | None:
    """Reads the newest good checkpoint; logs the damaged ones that it skips.

    Returns:
        The state and its progress, or None if there is no checkpoint.

    Raises:
        ValueError: all checkpoints are damaged, or one is of another network.
    """
    steps = sorted(manager.all_steps(), reverse=True)
    for step in steps:
        try:
            return restore(manager, step, like)
        except notes_lib.Damaged as error:
            logging.warning("%s/%d: damaged checkpoint: %s", manager.directory, step, error)
    if steps:
        raise ValueError(
            f"{manager.directory}: all {len(steps)} checkpoints are damaged; move them away "
            "to begin anew, or choose another --workdir."
        )
    return None


def load_selected(
    workdir: epath.Path, selection: str, like: train_step.TrainState
) -> train_step.TrainState:
    """Loads the checkpoint that `selection`, one of `SELECTIONS`, names; writes nothing.

    Raises:
        ValueError: there is no good checkpoint, or it is of another network.
    """
    with open_manager(workdir, to_save=False) as manager:
        best_step = None if selection == "last" else _find_best(manager.directory)
        if best_step is not None:
            try:
                return restore(manager, best_step, like)[0]
            except notes_lib.Damaged as error:
                place = f"{manager.directory}/{best_step}"
                logging.warning("%s: damaged: %s; using the newest good one", place, error)
        restored = restore_latest(manager, like)
    if restored is None:
        raise ValueError(f"{workdir}: there is no checkpoint; train first.")
    return restored[0]


def _find_best(folder: epath.Path) -> int | None:
    """Finds the step of the lowest rank; logs the checkpoints whose rank is unknown."""
    ranks = load_ranks(folder)
    for step, rank in ranks.items():
        if rank is None:
            logging.warning("%s/%d: damaged: its rank can't be read; passed over", folder, step)
    return notes_lib.find_best(ranks)


def selected_step(selection: str, workdir: epath.Path) -> int | None:
    """Returns the step of the checkpoint that `selection` names; None if there is none."""
    folder = workdir / "checkpoints"
    best_step = None if selection == "last" else notes_lib.find_best(load_ranks(folder))
    return max(_steps(folder), default=None) if best_step is None else best_step


def selected_weights(selection: str, workdir: epath.Path) -> str:
    """Returns the digest of the weights that `selection` names, from notes; "" if not known."""
    step = selected_step(selection, workdir)
    if step is None:
        return ""
    try:
        notes = notes_lib.load(workdir / "checkpoints" / str(step))
    except notes_lib.Damaged:
        return ""
    return notes_lib.digest_weights({name: leaf.digest for name, leaf in notes.leaves.items()})


def digest_weights(state: train_step.TrainState) -> str:
    """Returns one digest, hexadecimal, of a state's parameters and running statistics."""
    return notes_lib.digest_weights(digest_state(state))


def set_aside_newer(workdir: epath.Path, step: int) -> None:
    """Moves checkpoints newer than `step`, which are damaged, to `checkpoints_damaged`.

    Call it while no manager is open, as a manager remembers which checkpoints there are.
    """
    newer_steps = [s for s in _steps(workdir / "checkpoints") if s > step]
    for newer in newer_steps if distributed.is_main() else ():
        target = workdir / "checkpoints_damaged" / str(newer)
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            target.rmtree()
        (workdir / "checkpoints" / str(newer)).rename(target)
        logging.warning("moved the damaged checkpoint %d to %s", newer, target)
    distributed.tell_all(None)  # The other processes wait until they are moved.


def digest_state(state: train_step.TrainState) -> dict[str, int]:
    """Computes a checksum of every leaf, on the host: a program would take seconds to compile.

    Orbax keeps no checksums: zeroed bytes restore silently. Changing a single 32-bit word always
    changes a digest; any other change does so with probability 1 - 2 ** -32.

    Returns:
        Leaf path -> digest below 2 ** 32.
    """
    leaves = jax.device_get(_named_leaves(state))
    return {name: _digest(np.asarray(leaf)) for name, leaf in leaves.items()}


def _named_leaves(state: train_step.TrainState) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _digest(leaf: np.ndarray) -> int:
    """Returns the sum of w_i (2 i + 1) C modulo 2 ** 32, over the words w_i of an array."""
    words = leaf.reshape(-1).view(f"uint{8 * leaf.dtype.itemsize}")
    total = 0
    # Odd weights have an inverse modulo 2 ** 32, so no single change cancels out.
    for start in range(0, words.size, _WEIGHTS.size):
        part = words[start : start + _WEIGHTS.size].astype(np.uint32, copy=False)
        weighted = np.sum(part * _WEIGHTS[: part.size], dtype=np.uint32)
        total += int(weighted) + 2 * start * int(np.sum(part, dtype=np.uint32))
    return total * 0x9E3779B1 % 2**32
