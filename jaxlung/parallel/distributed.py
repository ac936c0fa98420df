"""Several processes as one program: how they find each other, and what they agree on.

Every process takes the same steps, on its own rows of each batch, and knows the same scores;
process 0 alone writes files and speaks. What depends on files that come into being, or on a signal,
is told to all: processes that took different turns would wait for each other for ever.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import flags, logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxlung.host import console, files
from jaxlung.parallel import cluster as cluster_lib
from jaxlung.parallel import sharding

MAX_BYTES = 1 << 16  # of a message from process 0
ORBAX_BARRIERS = "experimental_orbax_use_distributed_barrier"  # They wait longer than Gloo.
LONGEST_WAIT = 3600  # seconds; preparing a dataset takes long


def start(cluster: cluster_lib.Cluster) -> None:
    """Waits for all processes of the run; to be called before anything of JAX is.

    Raises:
        RuntimeError: they are not all there within five minutes.
        ValueError: see `sharding.visible_devices`.
    """
    # Its SIGTERM handler would take the place of `interrupt`'s, which agree through `Votes`.
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
    """Waits until all processes are here, up to an hour.

    To be called before a collective that they come to at different times: Gloo, which carries
    collectives between CPUs, gives up after 30 seconds.

    Args:
        what: that they come from, for the message if some don't come.
    """
    if jax.process_count() > 1:
        everybody = set(range(jax.process_count()))  # Named, it is no collective itself.
        ocp.multihost.sync_global_processes(what, timeout=LONGEST_WAIT, processes=everybody)


def compiled_by_all(jitted: Callable[..., Any]) -> Callable[..., Any]:
    """A jitted function that no process runs before all have compiled it; see `meet`."""
    if jax.process_count() == 1:
        return jitted
    programs: dict[Any, Callable[..., Any]] = {}

    def call(*args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        key = (structure, *((x.shape, x.dtype) for x in leaves))
        if key not in programs:
            programs[key] = jitted.lower(*args).compile()
            meet("compiling")
        return programs[key](*args)

    return call


def is_main() -> bool:
    """Whether this is the process that writes files: process 0."""
    return jax.process_index() == 0


def tell_all(value: Any) -> Any:
    """What process 0 gave, a JSON value, in all processes."""
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
    """Process 0 runs the body before the others do, so that they find the files that it made.

    Raises:
        ValueError: in the others, where process 0's body failed.
    """
    if not is_main() and not tell_all(None):
        raise ValueError(f"{what}: process 0 could not do it; see what it says.")
    done = False
    try:
        yield
        done = True
    finally:
        if is_main():
            tell_all(done)


class Votes:
    """Whether any process wants something, asked with every dispatch and answered at the next one.

    The answer is an array that the devices compute after the dispatch before, so asking makes
    nobody wait, and all processes get the same answer at the same step.

    Args:
        mesh: of all devices.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        whole = NamedSharding(mesh, PartitionSpec())
        self._any = compiled_by_all(jax.jit(jnp.any, out_shardings=whole))
        self._shape = (mesh.size,)
        self._asked: jax.Array | None = None

    def ask(self, wanted: bool) -> bool:
        """Whether any process wanted it when it asked the time before; alone, whether this does."""
        if jax.process_count() == 1:
            return wanted
        votes = sharding.put(np.full(self._shape, wanted), self._split)
        before, self._asked = self._asked, self._any(votes)
        return before is not None and bool(jax.device_get(before))

    def ask_now(self, wanted: bool) -> bool:
        """Whether any process wants it; waits for all of them."""
        self.ask(wanted)
        return self.ask(wanted)
