"""Compiled programs are kept between runs, so that a run that goes on begins at once."""

import hashlib
import os
import pathlib
import platform
from collections.abc import Mapping

import jax

from jaxlung.host import folder_lock

MAX_BYTES = 5 * 2**30  # The programs that were not used for longest go first.
LEAST_SECONDS = 0.5  # Programs that compile faster are not kept.


def use(environ: Mapping[str, str]) -> None:
    """Keeps compiled programs in the user's cache folder.

    JAX_COMPILATION_CACHE_DIR names another folder, and JAX_ENABLE_COMPILATION_CACHE=false keeps
    none. A folder that can't be written costs JAX's warning and no more.

    Args:
        environ: the environment.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in environ:
        _remove_halves(folder(environ))
        jax.config.update("jax_compilation_cache_dir", str(folder(environ)))
        jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)


def folder(environ: Mapping[str, str]) -> pathlib.Path:
    """Of this kind of machine: a home folder may be shared, and programs for CPUs are not alike."""
    home = pathlib.Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "jaxlung" / f"compiled-{hashlib.sha256(_cpu().encode()).hexdigest()[:8]}"


def _remove_halves(path: pathlib.Path) -> None:
    """Removes what a process wrote when it was killed: JAX would neither use nor replace it.

    The time of the last use is written after the program; without it JAX can't find out what to
    remove either, and keeps no further program.
    """
    with folder_lock.take_turn_if_free(path / ".lockfile") as is_alone:  # JAX's own lock
        for program in path.glob("*-cache") if is_alone else ():
            if not program.with_name(program.name.removesuffix("-cache") + "-atime").exists():
                program.unlink(missing_ok=True)


def _cpu() -> str:
    """What compilers look at: the CPU's instructions where Linux tells them, else its name."""
    if not os.path.exists("/proc/cpuinfo"):
        return platform.machine() + platform.processor()
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    told = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return "\n".join(sorted(set(told)))
