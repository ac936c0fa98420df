"""What XLA is told about programs that train."""

import jax

# XLA's CPU compiler gives convolutions to YNNPACK, which takes 2 to 3 times as long as Eigen over
# the weight gradient of a 3 x 3 convolution, and forward and in products of matrices is no faster.
EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}


def train_step_options() -> dict[str, str] | None:
    """`compiler_options` of `jax.jit` for a training step; None, XLA's own, but on CPUs.

    Measured by `benchmarks.layers`; results agree to rounding, not to the bit.
    """
    return EIGEN if jax.default_backend() == "cpu" else None
