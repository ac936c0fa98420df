"""Four CPU devices, strict JAX, compiled programs kept between runs of the suite."""

import os
import pathlib
import sys
import tempfile

# Compiling is most of the suite's time; the level halves it, and gives the same bits where it was
# compared. On a busy machine four devices may come to a collective more than 40 seconds apart,
# after which XLA would end the process.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=1 "
    "--xla_cpu_collective_call_terminate_timeout_seconds=600"
)
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
from absl import flags

jax.config.update("jax_numpy_rank_promotion", "raise")
CACHE_DIR = pathlib.Path(tempfile.gettempdir()) / f"jaxlung_test_cache_{os.getuid()}"
jax.config.update("jax_compilation_cache_dir", str(CACHE_DIR))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import jaxlung.main  # Defines the flags.  # noqa: E402, F401

flags.FLAGS(["pytest"])
