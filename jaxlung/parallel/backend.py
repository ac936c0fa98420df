"""Starts JAX in a process, and explains errors of its devices. Imports JAX when called."""

import os

from absl import logging

from jaxlung.parallel import cluster as cluster_lib

# Parts of XLA's messages when a collective or the coordinator does not answer.
PEER_GONE = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "coordination")


def start(
    cluster: cluster_lib.Cluster | None = None,
    *,
    only_compile: bool = False,
    only_cpu: bool = False,
) -> None:
    """Starts JAX: the compile cache, the other processes of the run, the devices.

    Args:
        cluster: where the processes of the run meet; None for a single one.
        only_compile: leave this machine's accelerators alone, and compile anew.
        only_cpu: leave this machine's accelerators to other processes.
    """
    # Imported here, so that a typo in the command line is reported within half a second.
    from jaxlung.host import compile_cache
    from jaxlung.parallel import distributed, sharding

    if only_compile:
        compile_cache.do_without()
    else:
        compile_cache.use(os.environ)
    if only_compile or only_cpu:
        sharding.leave_accelerators()
    use_32_bits()
    if cluster:
        distributed.start(cluster)
    sharding.visible_devices()  # Reports missing devices before anything else.


def use_32_bits() -> None:
    """Turns off what `JAX_ENABLE_X64` turns on, so that runs are equal wherever they are made."""
    import jax

    if jax.config.read("jax_enable_x64"):
        logging.info("JAX_ENABLE_X64 is set; jaxlung computes in 32 bits all the same")
        jax.config.update("jax_enable_x64", False)


def explain(error: Exception, cluster: cluster_lib.Cluster | None = None) -> Exception:
    """Returns the error in words that tell the user what to do.

    Raises:
        RuntimeError: the error is a fault of the program.
    """
    if not isinstance(error, RuntimeError):
        return error
    if "RESOURCE_EXHAUSTED" in str(error):
        return MemoryError(
            "the device has too little memory; try a smaller --config.data.batch_size, "
            "--config.step.remat=True, --config.step.microbatches=2, --config.data.placement=host, "
            "or --config.model.dtype=bfloat16."
        )
    if cluster and any(sign in str(error) for sign in PEER_GONE):
        return ConnectionError(
            f"another process of this run is gone ({str(error).splitlines()[0][:200]}); everything "
            "saved is intact. Run the same command in all processes to resume."
        )
    raise error
