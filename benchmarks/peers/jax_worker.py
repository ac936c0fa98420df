"""jaxlung's side: its own training step on its own feed, in a process of its own."""

import importlib.metadata
import itertools
import json
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import flax
import jax
import ml_collections as mlc
import numpy as np

from benchmarks import isolated_call, kernels
from benchmarks.peers import cases, data, protocol
from jaxlung.benchmark import dry_run, flops
from jaxlung.data import record
from jaxlung.data.feed import order, pipeline
from jaxlung.training import system as system_lib
from jaxlung.training import train_step

MOST_STEPS = 200_000  # limit for all runs of a case together


class PictureSource:
    """`data.Pictures` as a source."""

    def __init__(self, batch_size: int, size: int) -> None:
        self._pictures = data.Pictures(batch_size, size)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> record.Record:
        return record.Record(*self._pictures[index], str(index), str(index), "")

    def people(self) -> list[tuple[str, str]]:
        """Returns (image_id, patient_id) of every record; each person has one picture."""
        return [(str(i), str(i)) for i in range(len(self))]


class VolumeSource:
    """`data.make_volumes` as a source."""

    def __init__(self, patch_size: tuple[int, int, int]) -> None:
        self._volumes = data.make_volumes(patch_size)

    def __len__(self) -> int:
        return len(self._volumes)

    def __getitem__(self, index: int) -> record.VolumeRecord:
        image, mask = self._volumes[index]
        name = str(index)
        shape, affine = image.shape[::-1], np.eye(4)
        return record.VolumeRecord(image, mask, (1.0, 1.0, 1.0), shape, affine, name, name, "")

    def people(self) -> list[tuple[str, str]]:
        """Returns (image_id, patient_id) of every record; each person has one volume."""
        return [(str(i), str(i)) for i in range(len(self))]


class Training:
    """A config's training steps, ready to be timed.

    Args:
        config: the result of `cases.load_config`.
    """

    def __init__(self, config: mlc.ConfigDict) -> None:
        self.system = system_lib.make_system(config)
        self.state = self.system.init_state()
        self.feed = pipeline.open_feed(
            _make_source(config.data), self.system.settings, self.system.shardings, "train"
        )
        self._step = self.system.jit_train_step(self.feed.take)
        self._steps_per_dispatch = self.system.steps_per_dispatch
        starts = range(0, MOST_STEPS, self._steps_per_dispatch)
        dispatches = (range(step, step + self._steps_per_dispatch) for step in starts)
        example_at = order.shuffled(config.seed, self.feed.num_examples)
        self._items = self.feed.items(example_at, self.system.settings.batch_size, dispatches)

    def compile(self, options: Mapping[str, Any]) -> dict[str, float]:
        """Compiles the program of a dispatch, with options of XLA on top of jaxlung's.

        Returns:
            "flops" of a step, as `flops.count` counts them; "memory_bytes" of a device, as the
            compiler plans them; "compile_seconds".
        """
        item = next(self._items)
        self._items = itertools.chain([item], self._items)
        traced = self._step.trace(self.state, self.feed.store, item, self.system.seed)
        start = time.perf_counter()
        self._step = traced.lower().compile(compiler_options=dict(options) or None)
        return {
            "flops": flops.count(traced.jaxpr.jaxpr) / self._steps_per_dispatch,
            "memory_bytes": dry_run.memory_bytes(self._step),
            "compile_seconds": time.perf_counter() - start,
        }

    def profile(self) -> dict[str, Any]:
        """Returns `kernels.breakdown` of a dispatch."""
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                self.run(1)
            return kernels.breakdown(folder, self._steps_per_dispatch)

    def step(self, item: Any) -> dict[str, jax.Array]:
        """Runs one dispatch on an item of the feed; returns metrics of each of its steps."""
        self.state, metrics = self._step(self.state, self.feed.store, item, self.system.seed)
        return metrics

    def run(self, num_steps: int) -> dict[str, Any]:
        """Runs `num_steps`, rounded up to whole dispatches, and waits for the device."""
        num_dispatches = -(-num_steps // self._steps_per_dispatch)
        start = time.perf_counter()
        for _ in range(num_dispatches):
            metrics = self.step(next(self._items))
        jax.block_until_ready((self.state, metrics))
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "steps": num_dispatches * self._steps_per_dispatch}

    @property
    def num_parameters(self) -> int:
        """Returns the number of trained parameters."""
        return sum(x.size for x in jax.tree.leaves(self.state.params))


def _make_source(settings: mlc.ConfigDict) -> record.Source:
    if "patch_size" in settings:
        return VolumeSource(settings.patch_size)
    return PictureSource(settings.batch_size, settings.image_size)


def check(training: Training, path: str, num_steps: int) -> dict[str, Any]:
    """Writes a network, a batch and its logits to `path`, then trains on that batch.

    Returns:
        "losses" before each of `num_steps` updates, and "grad_norm" of the first.
    """
    system, feed = training.system, training.feed
    in_turn = order.in_turn(feed.num_examples)
    batch = next(feed.batches(in_turn, system.settings.batch_size, 1))
    np.savez(
        path,
        **{f"weights/{name}": array for name, array in _flat_weights(training.state).items()},
        images=np.asarray(batch["images"]),
        masks=np.asarray(batch["masks"]),
        logits=_logits(system, training.state, batch),
    )
    metrics = []
    for _ in range(num_steps):
        [item] = feed.items(in_turn, system.settings.batch_size, [range(1)])
        metrics.append(jax.device_get(training.step(item)))
    return {
        "losses": [float(m["loss"][0]) for m in metrics],
        "grad_norm": float(metrics[0]["grad_norm"][0]),
    }


def _flat_weights(state: train_step.TrainState) -> dict[str, np.ndarray]:
    """Returns parameters and running statistics by path."""
    return {
        "/".join(path): np.asarray(array)
        for tree in (state.params, state.batch_stats)
        for path, array in flax.traverse_util.flatten_dict(tree).items()
    }


def _logits(
    system: system_lib.System, state: train_step.TrainState, batch: dict[str, jax.Array]
) -> np.ndarray:
    """Returns logits of all levels with the statistics of the batch, [levels, B, ...] float32."""

    def apply(state: train_step.TrainState, batch: dict[str, jax.Array]) -> Any:
        images = system.task.inputs(system.step.scale(batch["images"]), batch["masks"])
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        return system.model.apply(variables, images, train=True, mutable=["batch_stats"])[0]

    return np.stack([np.asarray(x)[..., 0] for x in jax.tree.leaves(jax.jit(apply)(state, batch))])


def main() -> None:
    """Answers "hello", "make", "run", "profile" and "check"."""
    made: dict[str, Any] = {}

    def hello() -> dict[str, Any]:
        device = jax.devices()[0]
        versions = {name: importlib.metadata.version(name) for name in ("jax", "flax")}
        return {"platform": device.platform, "device": device.device_kind, "versions": versions}

    def make(
        case: str, fields: Mapping[str, Any], xla: Mapping[str, Any], **options: Any
    ) -> dict[str, Any]:
        wanted = json.dumps([case, fields, xla, options])
        if made.get("wanted") != wanted:
            made.clear()  # Frees its memory first.
            start = time.perf_counter()
            config = cases.load_config(cases.find(case), **options)
            config.update_from_flattened_dict(isolated_call.freeze(fields))
            training = Training(config)
            facts = training.compile(xla)
            for _ in range(2):
                training.run(1)
            facts |= {
                "parameters": training.num_parameters,
                "first_seconds": time.perf_counter() - start,
            }
            made.update(wanted=wanted, training=training, facts=facts)
        return made["facts"]

    def check_case(case: str, path: str, num_steps: int, **options: Any) -> dict[str, Any]:
        # Otherwise accelerators multiply float32 with fewer bits.
        with jax.default_matmul_precision("highest"):
            training = Training(cases.load_config(cases.find(case), **options))
            answer = check(training, path, num_steps)
        return answer | {"parameters": training.num_parameters}

    protocol.serve(
        {
            "hello": hello,
            "make": make,
            "run": lambda steps: made["training"].run(steps),
            "profile": lambda: made["training"].profile(),
            "check": check_case,
        }
    )


if __name__ == "__main__":
    main()
