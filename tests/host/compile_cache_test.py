"""Compiled programs are kept in a cache folder."""

import pathlib
import threading

import jax
import jax.numpy as jnp
import pytest
from jax._src import compilation_cache, compiler, lru_cache

from jaxlung.host import compile_cache

NAMES = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_enable_xla_caches",
)


@pytest.fixture(autouse=True)
def settings():
    """Restores JAX's own settings."""
    before = {name: getattr(jax.config, name) for name in NAMES}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_they_are_in_the_users_cache_folder_within_bounds():
    compile_cache.use({"XDG_CACHE_HOME": "/home/somebody/cache"})
    folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
    assert folder.parent == pathlib.Path("/home/somebody/cache/jaxlung")
    assert jax.config.jax_compilation_cache_max_size == 5 * 2**30
    assert compile_cache.folder({}).parent == pathlib.Path.home() / ".cache/jaxlung"


def test_xla_keeps_what_gpus_tried_in_the_same_folder():
    """JAX gives the folder to XLA only if the option is named so and the cache is in use."""
    jax.config.update("jax_persistent_cache_enable_xla_caches", "")
    compile_cache.use({"XDG_CACHE_HOME": "/home/somebody/cache"})
    options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
    kept = options.executable_build_options.debug_options.xla_gpu_per_fusion_autotune_cache_dir
    assert pathlib.Path(kept).parent == pathlib.Path(jax.config.jax_compilation_cache_dir)


def test_jaxs_own_variable_wins():
    before = jax.config.jax_compilation_cache_dir
    compile_cache.use({"JAX_COMPILATION_CACHE_DIR": "/elsewhere"})
    assert jax.config.jax_compilation_cache_dir == before  # JAX read it when it was imported.


def test_another_kind_of_cpu_has_another_folder(monkeypatch):
    here = compile_cache.folder({})
    assert compile_cache.folder({}) == here
    monkeypatch.setattr(compile_cache, "_cpu", lambda: "another")
    assert compile_cache.folder({}) != here


def test_what_a_killed_process_left_is_no_obstacle(tmp_path):
    """JAX writes a program, then the time of its use; a kill between leaves the one alone."""
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    folder = compile_cache.folder(environ)
    cache = lru_cache.LRUCache(str(folder), max_size=1000)
    cache.put("whole", b"program")
    (folder / "half-cache").write_bytes(b"pro")
    compile_cache.use(environ)
    cache.put("new", b"program")
    cache.put("half", b"program")
    assert [cache.get(key) for key in ("whole", "new", "half")] == [b"program"] * 3


def test_programs_are_left_alone_while_another_process_writes(tmp_path):
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    folder = compile_cache.folder(environ)
    cache = lru_cache.LRUCache(str(folder), max_size=1000)
    (folder / "half-cache").write_bytes(b"pro")
    with cache.lock:
        compile_cache.use(environ)
    assert (folder / "half-cache").exists()


def waits_for(program, held):
    """Whether compiling a program waits while another one is compiled."""
    done = threading.Event()

    def compile_it():
        with compile_cache.wait_for_equal(program):
            done.set()

    thread = threading.Thread(target=compile_it)
    with compile_cache.wait_for_equal(held):
        thread.start()
        waited = not done.wait(0.3)
    thread.join(timeout=10)
    assert done.is_set()
    return waited


def test_equal_programs_wait_for_each_other_and_others_do_not(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "cache"))
    assert waits_for("module a", held="module a")
    assert not waits_for("module b", held="module a")


@pytest.mark.parametrize("folder", [None, "/proc/no/such/folder"])
def test_nobody_waits_without_a_cache(folder):
    jax.config.update("jax_compilation_cache_dir", folder)
    assert not waits_for("module a", held="module a")


def test_programs_that_are_compiled_and_read_are_counted(tmp_path):
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    x = jnp.arange(3.0)
    seen = compile_cache.count()
    for _ in range(3):
        jax.jit(lambda x: x * 3.25 + 1)(x)
        jax.clear_caches()
    assert (seen[compile_cache.KEPT], seen[compile_cache.READ]) == (1, 2)
