"""Runs several processes as one program.

Every process takes the same steps, on its own rows of each batch, and computes the same scores.
Process 0 alone writes files and logs. Decisions that depend on files or signals are shared among
all processes: if they took different branches they would wait for each other for ever.
"""

import concurrent.futures
import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import flags, logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxlung.host import compile_cache, console, files
from jaxlung.parallel import cluster as cluster_lib
from jaxlung.parallel import sharding

MAX_BYTES = 1 << 16  # Largest message from process 0.
ORBAX_BARRIERS = "experimental_orbax_use_distributed_barrier"  # They wait longer than Gloo.
LONGEST_WAIT = 3600  # Seconds; preparing a dataset takes long.


def start(cluster: cluster_lib.Cluster) -> None:
    """Connects to all processes of the run. Call it before anything else of JAX.

    Args:
        cluster: where the processes meet.

    Raises:
        RuntimeError: some process didn't connect within five minutes.
        ValueError: see `sharding.visible_devices`.
    """
    # Its SIGTERM handler would replace those of `interrupt`, which agree through `Votes`.
    jax.config.update("jax_enable_preemption_service", False)
    flags.FLAGS[ORBAX_BARRIERS].value = True
    jax.distributed.initialize(cluster.coordinator, cluster.num_processes, cluster.process_id)
    sharding.visible_devices()
    if not is_main():
        files.leave_to_others()
        console.quiet_process(jax.process_index())
    logging.info(
        "process %d of %d, %d of %d devices",
        jax.process_index(),
        jax.process_count(),
        jax.local_device_count(),
        jax.device_count(),
    )


def meet(what: str) -> None:
    """Waits up to an hour until all processes have called this.

    Call it before a collective that processes reach at different times: Gloo, which carries
    collectives between CPUs, gives up after 30 seconds.

    Args:
        what: name of the work before it, for the error message if some process doesn't come.
    """
    if jax.process_count() > 1:
        # With processes named, this is not itself a collective.
        everybody = set(range(jax.process_count()))
        ocp.multihost.sync_global_processes(what, timeout=LONGEST_WAIT, processes=everybody)


class Program:
    """A jitted function that no process runs before all have compiled it.

    It is compiled for the shapes of its arguments, by `compile_ahead` or at the first call.

    Args:
        jitted: the function.
    """

    def __init__(self, jitted: jax.stages.Wrapped) -> None:
        self._jitted = jitted
        self._compiled: dict[Any, Callable[..., Any]] = {}

    def lower(self, *args: Any) -> Callable[[], None]:
        """Traces the function; returns a function that compiles it, in any thread.

        Args:
            args: arrays, or their shapes, types and shardings.
        """
        lowered = self._jitted.lower(*args)

        def finish() -> None:
            # Several processes of one run compile together: on GPUs they share the trials.
            with contextlib.ExitStack() as stack:
                if jax.process_count() == 1:
                    stack.enter_context(compile_cache.wait_for_equal(lowered.as_text()))
                self._compiled[_shapes(args)] = lowered.compile()

        return finish

    def __call__(self, *args: Any) -> Any:
        """Runs the function."""
        if jax.process_count() == 1 and self._compiled:
            return self._jitted(*args)  # JAX finds what `lower` has compiled.
        shapes = _shapes(args)
        if shapes not in self._compiled:
            compile_ahead([(self, args)])
        return self._compiled[shapes](*args) if jax.process_count() > 1 else self._jitted(*args)


Job = tuple[Program, Sequence[Any]]  # A program, and its arguments or their shapes.


def _shapes(args: Any) -> Any:
    leaves, structure = jax.tree.flatten(args)
    return (structure, *((x.shape, x.dtype) for x in leaves))


def compile_ahead(jobs: Sequence[Job]) -> None:
    """Compiles programs, and waits until all processes have.

    The first one is compiled alone, then the others at the same time. GPUs try several forms of
    every convolution, and a program that is compiled later takes over what was found. Programs
    compiled at the same time would try them twice, one after the other
    (github.com/openxla/xla/pull/41620).

    Args:
        jobs: programs and their arguments, or the shapes, types and shardings of these. The first
            should have the most convolutions.
    """
    with concurrent.futures.ThreadPoolExecutor() as pool:
        traced = (program.lower(*args) for program, args in jobs)
        first = pool.submit(next(traced))
        others = [*traced]  # While the first one is compiled.
        first.result()
        for compiled in [pool.submit(finish) for finish in others]:
            compiled.result()
    meet("compiling")


def compiled_by_all(jitted: jax.stages.Wrapped) -> Program:
    """Wraps a jitted function so that no process runs it before all have compiled it."""
    return Program(jitted)


def is_main() -> bool:
    """Returns True in process 0, which writes the files."""
    return jax.process_index() == 0


def tell_all(value: Any) -> Any:
    """Returns, in all processes, the JSON value that process 0 passed."""
    if jax.process_count() == 1:
        return value
    meet("telling")
    text = json.dumps(value).encode() if is_main() else b""
    if len(text) >= MAX_BYTES:
        raise ValueError(f"got a message of {len(text)} bytes, want fewer than {MAX_BYTES}.")
    buffer = np.zeros(MAX_BYTES, np.uint8)
    buffer[: len(text)] = np.frombuffer(text, np.uint8)
    told = np.asarray(multihost_utils.broadcast_one_to_all(buffer))
    return json.loads(told.tobytes().rstrip(b"\0"))


@contextlib.contextmanager
def main_first(what: str) -> Iterator[None]:
    """Runs the body in process 0 first, so that the others find the files that it made.

    Args:
        what: name of the work, for the error message.

    Raises:
        ValueError: raised in the other processes if the body failed in process 0.
    """
    if not is_main() and not tell_all(None):
        raise ValueError(f"{what}: process 0 failed; see its error message.")
    done = False
    try:
        yield
        done = True
    finally:
        if is_main():
            tell_all(done)


class Votes:
    """A vote among processes, held with every dispatch and counted at the next one.

    The devices compute the result after the previous dispatch, so that voting makes no process
    wait, and all processes get the same result at the same step.

    Args:
        mesh: mesh of all devices.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        whole = NamedSharding(mesh, PartitionSpec())
        self._any = compiled_by_all(jax.jit(jnp.any, out_shardings=whole))
        self._shape = (mesh.size,)
        self._asked: jax.Array | None = None

    def ask(self, wanted: bool) -> bool:
        """Votes, and returns whether any process voted yes the time before.

        A process on its own gets its own vote back at once.
        """
        if jax.process_count() == 1:
            return wanted
        votes = sharding.put(np.full(self._shape, wanted), self._split)
        before, self._asked = self._asked, self._any(votes)
        return before is not None and bool(jax.device_get(before))

    def ask_now(self, wanted: bool) -> bool:
        """Votes, and returns whether any process votes yes now; waits for all of them."""
        self.ask(wanted)
        return self.ask(wanted)
