"""The training loop in parts: only its input, only its step, or both."""

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

DISPATCHES_AT_ONCE = 10_000  # that the feed is asked for


class Loop:
    """A compiled training step and the feed to it.

    Args:
        system: what is trained.
        feed: from `pipeline.open_feed`.
        state: to begin with; its memory is reused.
        seed: of the order of the examples.

    Attributes:
        state: after the steps so far.
        num_steps: steps of a dispatch.
        streams: whether the host makes items ready while nobody draws any.
        compiled: the step, for `num_steps` steps.
        from_cache: whether it had been compiled before.
        flops: of one step over all devices, see `flops.count`.
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
        self.streams = not feed.store
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
        """Input alone: batches on the device, as the step takes them."""
        for item in itertools.islice(self._items, num_dispatches):
            batch = self._take(self._store, item)
        jax.block_until_ready(batch)

    def draw_stale(self) -> None:
        """Draws what may have been made ready meanwhile."""
        self.draw(stream.most_ready(self._num_threads) + 1)

    def step(self, num_dispatches: int) -> None:
        """The step alone, on the same item again and again."""
        for _ in range(num_dispatches):
            metrics = self._dispatch(self._item)
        jax.block_until_ready(metrics)

    def train(self, num_dispatches: int) -> None:
        """Both; what the steps tell is fetched at the end, as it is at log points."""
        items = itertools.islice(self._items, num_dispatches)
        jax.device_get([self._dispatch(item) for item in items])

    def compile_one_step(self) -> jax.stages.Compiled:
        """The program of a single step; the one that runs if `num_steps` is 1."""
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
    """Items as in training, for as long as anybody wants them; epochs are not told apart."""
    example_at = order.shuffled(seed, feed.num_examples)
    num_steps = system.steps_per_dispatch
    for first in itertools.count(0, num_steps * DISPATCHES_AT_ONCE):
        last = first + num_steps * DISPATCHES_AT_ONCE
        dispatches = (range(step, step + num_steps) for step in range(first, last, num_steps))
        yield from feed.items(example_at, system.settings.batch_size, dispatches)


@contextlib.contextmanager
def _cache_hits() -> Iterator[list[str]]:
    """Programs that the body gets from JAX's persistent cache."""
    hits: list[str] = []

    def listen(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(listen)
