"""Opens a trained network, a run's folder or an exported file, in one place."""

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections as mlc
import numpy as np
from absl import logging
from etils import epath

from jaxlung.config import run_files, workdir
from jaxlung.exported import reader
from jaxlung.host import files
from jaxlung.parallel import sharding
from jaxlung.tasks import task as task_lib
from jaxlung.training import checkpoint, train_step
from jaxlung.training import system as system_lib


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A trained run, ready to predict.

    Attributes:
        path: folder of the run, or the exported file, absolute.
        config: config of the run, fitted to this machine, with its threshold filled in.
        system: what `config` describes, with its temperature.
        state: the selected checkpoint.
    """

    path: epath.Path
    config: mlc.ConfigDict
    system: system_lib.System
    state: train_step.TrainState

    @property
    def step(self) -> int:
        """Number of finished updates."""
        return int(self.state.step)


Devices = Sequence[jax.Device] | None  # None for all that JAX sees


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """A trained network that isn't loaded yet.

    Attributes:
        role: the role of its task, see `task.Task`.
        load: loads it onto devices, with the errors of `open_run`.
    """

    role: str
    load: Callable[[Devices], Trained]


def open_run(
    path: os.PathLike[str] | str, config: mlc.ConfigDict, devices: Devices = None
) -> Trained:
    """Opens the checkpoint that a run selects, with its temperature and its threshold.

    Args:
        path: folder of the run.
        config: config of the run, from `workdir.load_config`; it may be changed in fields that
            don't change the weights.
        devices: where the network predicts; None for all devices.

    Raises:
        ValueError: a field of the config can't be used, there is no good checkpoint, another
            process is training in the folder, or no threshold was chosen or no temperature fitted
            for these weights yet.
    """
    path = files.to_absolute(path)
    config, system = make_system(path, config, devices)
    state = load_state(path, config, system)
    temperature = None
    if config.calibrate:
        temperature = fitted_temperature(path, state)
        system = system.with_temperature(temperature)
    if system.task.threshold == 0:
        threshold = chosen_threshold(path, state, temperature)
        config = with_threshold(config, threshold)
        system = system.with_task(task_lib.with_threshold(system.task, [threshold]))
    return Trained(path, config, system, state)


def open_all(path: os.PathLike[str] | str) -> list[Trained]:
    """Opens a run's folder, or all networks of a file that `jaxlung export` wrote.

    Raises:
        ValueError: see `open_run`, or the file is damaged or no exported network.
    """
    return [stored.load(None) for stored in find_all(path)]


def find_all(path: os.PathLike[str] | str) -> list[Stored]:
    """Finds the network of a run's folder, or all networks of a file that `jaxlung export` wrote.

    The networks of a file are made anew from their configs and weights, without the program in it.

    Raises:
        ValueError: no run is there, its config can't be used, or the file is damaged or no exported
            network.
    """
    place = files.to_absolute(path)
    if not place.is_file():
        config = workdir.load_config(place)
        with workdir.naming_config(place):
            role = system_lib.make_task(config).role
        return [Stored(role, functools.partial(open_run, place, config))]
    manifest, networks = reader.read_networks(pathlib.Path(place))
    found = []
    for member, weights in zip(manifest["members"], networks, strict=True):
        with _naming_file(place):
            config = workdir.to_config(place, member["config"])
            role = system_lib.make_task(config).role
        found.append(Stored(role, functools.partial(_open_member, place, config, member, weights)))
    return found


@contextlib.contextmanager
def _naming_file(path: epath.Path) -> Iterator[None]:
    """Turns errors about what an exported file holds into one that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: this version of jaxlung can't use it ({error}).") from error


def _open_member(
    path: epath.Path,
    config: mlc.ConfigDict,
    member: Any,
    weights: dict[str, np.ndarray],
    devices: Devices,
) -> Trained:
    with _naming_file(path):
        config = fit_to_machine(config, devices)
        system = system_lib.make_system(config, devices)
        system = system.with_temperature(member.get("temperature", 1.0))
        if member.get("threshold") is not None:  # That of a diagnosis is chosen after scaling.
            task = task_lib.with_threshold(system.task, [member["threshold"]])
            system = system.with_task(task)
        like = system.abstract_state()
        names = flax.traverse_util.flatten_dict(like.network, sep="/")
        if {name: x.shape for name, x in names.items()} != {n: x.shape for n, x in weights.items()}:
            raise ValueError("its weights are not those of the network in its config")
    whole = {name: np.asarray(x, names[name].dtype) for name, x in weights.items()}
    network = flax.traverse_util.unflatten_dict(whole, sep="/")
    state = dataclasses.replace(
        like,
        step=jnp.int32(member["checkpoint"]["step"]),
        params=network["params"],
        batch_stats=network.get("batch_stats", {}),
        opt_state=(),
        learning_rate=jnp.float32(0),
        average={},
    )
    return Trained(path, config, system, sharding.put(state, system.shardings.replicated))


def make_system(
    path: epath.Path, config: mlc.ConfigDict, devices: Devices = None
) -> tuple[mlc.ConfigDict, system_lib.System]:
    """Returns a run's config fitted to devices of this machine, and the system that it describes.

    Raises:
        ValueError: a field of the config can't be used; the message names the run's `config.json`.
    """
    sharding.visible_devices()  # First: a missing device is not the config's fault.
    with workdir.naming_config(path):
        config = fit_to_machine(config, devices)
        return config, system_lib.make_system(config, devices)


def load_state(
    path: epath.Path, config: mlc.ConfigDict, system: system_lib.System
) -> train_step.TrainState:
    """Loads the checkpoint that a run's config selects.

    Raises:
        ValueError: there is no good checkpoint, or another process is training in the folder.
    """
    with _lock_unfinished(path):
        return checkpoint.load_selected(path, config.selection, system.abstract_state())


def _lock_unfinished(path: epath.Path) -> contextlib.AbstractContextManager[None]:
    """Keeps training from removing a checkpoint while it is read."""
    finished = (path / run_files.FINISHED).exists()
    # Nobody trains in a folder of a finished run, nor can we lock one that we can't write.
    if finished or not os.access(path, os.W_OK):
        return contextlib.nullcontext()
    return workdir.lock(path)


def fit_to_machine(config: mlc.ConfigDict, devices: Devices = None) -> mlc.ConfigDict:
    """Returns a copy of the config that suits the number of devices.

    They share each batch, whose size is rounded up to a multiple of their number.
    """
    changed = mlc.ConfigDict(config.to_dict())
    count = len(devices or sharding.visible_devices())
    changed.mesh.update(data=-1, space=1)
    for name in ("batch_size", "eval_batch_size"):
        changed.data[name] = -(-changed.data[name] // count) * count
    if changed.data.batch_size % (changed.step.microbatches * count):
        changed.step.microbatches = 1
    return changed


def with_threshold(config: mlc.ConfigDict, threshold: float) -> mlc.ConfigDict:
    """Returns a copy of the config with `task.threshold` set."""
    changed = mlc.ConfigDict(config.to_dict())
    changed.task.threshold = threshold
    return changed


def fitted_temperature(path: epath.Path, state: train_step.TrainState) -> float:
    """Returns the temperature that was fitted to the validation split for the weights in `state`.

    Raises:
        ValueError: no temperature was fitted for these weights, or a summary is damaged.
    """
    weights = checkpoint.digest_weights(state)
    for summary in _load_summaries(path):
        if summary.temperature is not None and summary.weights_digest == weights:
            return summary.temperature
    raise ValueError(
        f"{path}: no temperature was fitted for these weights of step {int(state.step)} yet; first "
        f"run jaxlung evaluate --workdir={path} --split=validation."
    )


def _load_summaries(path: epath.Path) -> list[run_files.Summary]:
    found = [run_files.load_summary(path, split) for split in run_files.SPLITS]
    return [summary for summary in found if summary is not None]


def chosen_threshold(
    path: epath.Path, state: train_step.TrainState, temperature: float | None
) -> float:
    """Returns the threshold that was chosen on the validation split for the weights in `state`.

    Summaries written by earlier versions don't name the weights. They are matched by their step,
    with a warning.

    Args:
        path: folder of the run.
        state: the selected checkpoint.
        temperature: the temperature of the probabilities that it is a threshold of; None if they
            aren't calibrated.

    Raises:
        ValueError: no threshold was chosen for these weights, or a summary is damaged.
    """
    step, weights = int(state.step), checkpoint.digest_weights(state)
    found = [x for x in _load_summaries(path) if x.temperature == temperature]
    summaries = [(x, x.threshold) for x in found if x.threshold is not None]
    for summary, threshold in summaries:
        if summary.weights_digest == weights:
            return threshold
    for summary, threshold in summaries:
        if not summary.weights_digest and summary.step == step:
            logging.warning(
                "%s: summary_%s.json was written by an earlier version and doesn't say which "
                "weights of step %d its threshold is for; to choose it again, run jaxlung "
                "evaluate --workdir=%s --split=%s",
                path,
                summary.split,
                step,
                path,
                summary.split,
            )
            return threshold
    raise ValueError(
        f"{path}: no threshold was chosen for these weights of step {step} yet; first run "
        f"jaxlung evaluate --workdir={path} --split=validation."
    )
