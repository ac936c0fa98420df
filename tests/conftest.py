"""Four CPU devices, strict JAX, compiled programs kept between runs of the suite."""

import os
import pathlib
import sys
import tempfile

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
from absl import flags

jax.config.update("jax_numpy_rank_promotion", "raise")
# Compiling is most of the suite's time.
CACHE_DIR = pathlib.Path(tempfile.gettempdir()) / f"jaxlung_test_cache_{os.getuid()}"
jax.config.update("jax_compilation_cache_dir", str(CACHE_DIR))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import jaxlung.main  # Defines the flags.  # noqa: E402, F401

flags.FLAGS(["pytest"])
