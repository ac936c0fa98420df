"""The training loop in parts, to be measured: its input, its step, or both."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import jax

from jaxlung.benchmark import flops
from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.feed import order, stream
from jaxlung.parallel import distributed
from jaxlung.training import system as system_lib
from jaxlung.training import train_step

DISPATCHES_AT_ONCE = 10_000  # dispatches in one request to the feed


class Loop:
    """A compiled training step and the feed of its batches.

    Args:
        system: the network and its training step.
        feed: from `pipeline.open_feed`.
        state: the state to start from. Its memory is reused.
        seed: seed of the order of examples.

    Attributes:
        state: the state after all steps so far.
        num_steps: steps per dispatch.
        streams: True if the host prepares items before they are drawn.
        compiled: the program of a dispatch.
        from_cache: True if the program came from JAX's persistent cache.
        flops: FLOPs of one step, over all devices, as `flops.count` counts them.
    """

    def __init__(
        self,
        system: system_lib.System,
        feed: feed_lib.Feed,
        state: train_step.TrainState,
        seed: int,
    ) -> None:
        self.state = state
        self.num_steps = system.steps_per_dispatch
        self.streams = not feed.is_resident
        self._store, self._seed = feed.store, system.seed
        self._items = _endless(feed, system, seed)
        self._item = next(self._items)
        self._num_threads = system.settings.num_threads
        self._step_fn = system.jit_train_step(feed.take)
        self._take = jax.jit(jax.vmap(feed.take, in_axes=(None, 0)))
        traced = self._step_fn.trace(state, self._store, self._item, self._seed)
        self.flops = flops.count(traced.jaxpr.jaxpr) / self.num_steps
        with _cache_hits() as hits:
            self.compiled = traced.lower().compile()
        distributed.meet("compiling")
        self.from_cache = bool(hits)

    def draw(self, num_dispatches: int) -> None:
        """Draws batches onto the device, in the form that the step takes, without the step."""
        for item in itertools.islice(self._items, num_dispatches):
            batch = self._take(self._store, item)
        jax.block_until_ready(batch)

    def draw_stale(self) -> None:
        """Draws all items that may have been prepared while other things were measured."""
        self.draw(stream.most_ready(self._num_threads) + 1)

    def step(self, num_dispatches: int) -> None:
        """Runs the step alone, on the same item every time."""
        for _ in range(num_dispatches):
            metrics = self._dispatch(self._item)
        jax.block_until_ready(metrics)

    def train(self, num_dispatches: int) -> None:
        """Draws items and runs the step on them; fetches metrics at the end, as at log points."""
        items = itertools.islice(self._items, num_dispatches)
        jax.device_get([self._dispatch(item) for item in items])

    def compile_one_step(self) -> jax.stages.Compiled:
        """Returns the program of a single step, which is `compiled` if `num_steps` is 1."""
        if self.num_steps == 1:
            return self.compiled
        item = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype, sharding=x.sharding),
            self._item,
        )
        return self._step_fn.lower(self.state, self._store, item, self._seed).compile()

    def _dispatch(self, item: Any) -> dict[str, jax.Array]:
        self.state, metrics = self.compiled(self.state, self._store, item, self._seed)
        return metrics


def _endless(feed: feed_lib.Feed, system: system_lib.System, seed: int) -> Iterator[Any]:
    """Yields items as in training, without end and without regard to epochs."""
    example_at = order.shuffled(seed, feed.num_examples)
    num_steps = system.steps_per_dispatch
    for first in itertools.count(0, num_steps * DISPATCHES_AT_ONCE):
        last = first + num_steps * DISPATCHES_AT_ONCE
        dispatches = (range(step, step + num_steps) for step in range(first, last, num_steps))
        yield from feed.items(example_at, system.settings.batch_size, dispatches)


@contextlib.contextmanager
def _cache_hits() -> Iterator[list[str]]:
    """Yields a list that grows whenever JAX takes a program from its persistent cache."""
    hits: list[str] = []

    def listen(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(listen)
