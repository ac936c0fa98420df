"""XLA's options for each program: what to change for a platform, and why."""

from typing import Literal

Program = Literal["init", "train", "evaluate", "predict"]

# Computes convolutions and matrix products on CPUs by Eigen, not by YNNPACK.
BY_EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}
# Compiles random numbers on CPUs 5 to 12 times faster, to the same bits.
LESS_OPTIMISED = {"xla_backend_optimization_level": 1}
# Channels last, the layout of NVIDIA's tensor cores. XLA chooses it for 2D by itself, in bfloat16
# and in float32. In 3D it doesn't, and cuDNN turns every operand around and back.
CHANNELS_LAST = {"xla_gpu_force_conv_nhwc": True}

# Keeps XLA from cutting images into strips that it counts as images of a larger batch, where a TPU
# has fewer than 8 examples. The strips overlap, are padded and are copied between layers.
# The first option alone leaves strips in some programs (a U-Net of 8 and 16 channels).
NO_STRIPS = {
    "xla_tpu_run_space_to_batch_on_new_platforms": False,
    "xla_tpu_run_space_to_batch": False,
}


def choose(
    program: Program, platform: str, *, is_volumetric: bool
) -> dict[str, str | int | bool] | None:
    """Returns the options of a program, for `jax.jit`; None for XLA's defaults.

    Args:
        program: "init" makes the state, the others are the steps of `train_step.Step`.
        platform: "cpu", "gpu" or "tpu".
        is_volumetric: True if the network's convolutions are 3D.
    """
    if platform == "cpu":
        if program == "init":
            return dict(LESS_OPTIMISED)
        # Eigen computes the weight gradient of 2D convolutions 2 to 5 times as fast; whole steps
        # become 1.0 to 1.5 times as fast (docs/benchmarks.md). Steps on volumes and predictions
        # would become slower.
        return dict(BY_EIGEN) if program == "train" and not is_volumetric else None
    if platform == "gpu" and is_volumetric and program != "init":
        return dict(CHANNELS_LAST)  # Steps become 1.2 to 1.35 times as fast on an H200.
    if platform == "tpu" and program != "init":
        return dict(NO_STRIPS)
    return None
