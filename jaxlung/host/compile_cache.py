"""Keeps compiled programs between runs, so that a resumed run starts at once."""

import collections
import contextlib
import hashlib
import os
import pathlib
import platform
from collections.abc import Iterator, Mapping

import jax

from jaxlung.host import folder_lock

MAX_BYTES = 5 * 2**30  # JAX removes the least recently used programs first.
LEAST_SECONDS = 0.5  # Programs that compile faster are not kept.
# Which form of a convolution or a product is fastest on a GPU: most of a cold start. It is kept for
# each of them, so that another program with the same ones need not try again.
XLA_CACHES = "xla_gpu_per_fusion_autotune_cache_dir"
NUM_LOCKS = 64  # Files in the cache folder; programs that share one wait for each other in vain.
# JAX's events: a program was compiled and kept, or read.
KEPT, READ = "/jax/compilation_cache/cache_misses", "/jax/compilation_cache/cache_hits"


def use(environ: Mapping[str, str]) -> None:
    """Makes JAX keep compiled programs in the user's cache folder.

    JAX_COMPILATION_CACHE_DIR chooses another folder, JAX_ENABLE_COMPILATION_CACHE=false turns the
    cache off. If the folder can't be written, JAX warns and compiles without a cache.

    Args:
        environ: the environment variables.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in environ:
        _remove_halves(folder(environ))
        jax.config.update("jax_compilation_cache_dir", str(folder(environ)))
        jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    jax.config.update("jax_persistent_cache_enable_xla_caches", XLA_CACHES)


@contextlib.contextmanager
def wait_for_equal(program: str) -> Iterator[None]:
    """Waits while another process compiles an equal program, and keeps others waiting meanwhile.

    So runs of equal shape that start together compile each program once: the others read it from
    the cache. Without a cache, or if its folder has no locks, nobody waits.

    Args:
        program: the program's text.
    """
    place = jax.config.values["jax_compilation_cache_dir"]
    number = int(hashlib.sha256(program.encode()).hexdigest(), 16) % NUM_LOCKS
    with contextlib.ExitStack() as stack:
        if place and jax.config.values["jax_enable_compilation_cache"]:
            with contextlib.suppress(OSError):
                os.makedirs(place, exist_ok=True)
                file = stack.enter_context(open(f"{place}/compiling-{number}.lock", "a"))
                folder_lock.wait_for(file)
        yield


def count() -> collections.Counter[str]:
    """Returns a counter of what happens to programs from now on: `KEPT` and `READ`."""
    seen: collections.Counter[str] = collections.Counter()

    def note(event: str, **fields: str | int) -> None:
        del fields
        seen[event] += 1

    jax.monitoring.register_event_listener(note)
    return seen


def do_without() -> None:
    """Makes JAX compile everything anew, so that the time it takes can be told."""
    jax.config.update("jax_enable_compilation_cache", False)


def folder(environ: Mapping[str, str]) -> pathlib.Path:
    """Returns the cache folder for this kind of CPU: machines may share a home folder."""
    home = pathlib.Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "jaxlung" / f"compiled-{hashlib.sha256(_cpu().encode()).hexdigest()[:8]}"


def _remove_halves(path: pathlib.Path) -> None:
    """Removes programs that a killed process left half written.

    JAX writes the time of last use after the program. A program without it is never used or
    replaced, and stops JAX from finding what to remove, so that no further program is kept.
    """
    with folder_lock.take_turn_if_free(path / ".lockfile") as is_locked:  # JAX's own lock
        for program in path.glob("*-cache") if is_locked else ():
            if not program.with_name(program.name.removesuffix("-cache") + "-atime").exists():
                program.unlink(missing_ok=True)


def _cpu() -> str:
    """Returns what compilers depend on: the CPU's instruction sets on Linux, else its name."""
    if not os.path.exists("/proc/cpuinfo"):
        return platform.machine() + platform.processor()
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    kept = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return "\n".join(sorted(set(kept)))
