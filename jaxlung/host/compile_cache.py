"""Keeps compiled programs between runs, so that a resumed run starts at once."""

import hashlib
import os
import pathlib
import platform
from collections.abc import Mapping

import jax

from jaxlung.host import folder_lock

MAX_BYTES = 5 * 2**30  # JAX removes the least recently used programs first.
LEAST_SECONDS = 0.5  # Programs that compile faster are not kept.


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
