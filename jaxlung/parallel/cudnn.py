"""Refuses versions of cuDNN that compute 3D convolutions wrongly.

On NVIDIA GPUs XLA computes every convolution by cuDNN, and JAX doesn't check for these versions.
PyTorch avoids them: 9.8 to 9.14 in float16 and bfloat16 with channels first (its issue 163539, pull
request 166480), 9.10.2 to 9.15 in TensorFloat-32 (pull request 167024). Some shapes are wrong,
which nobody has listed, and nothing in the results shows it. So these versions are refused in every
layout, with what to install.
"""

import ctypes
import os

import jax

LIBRARY = "libcudnn.so.9"
# dtype of the computation -> first wrong version and first right one after it, as cuDNN counts.
WRONG = {
    "bfloat16": (90800, 91500),
    "float16": (90800, 91500),
    "float32": (91002, 91600),  # As TensorFloat-32, JAX's default for float32.
}
FULL_PRECISION = ("highest", "float32")  # values of jax_default_matmul_precision without it


def loaded_version() -> int | None:
    """Returns the version of the cuDNN that this process has loaded, 91002 for 9.10.2, or None.

    JAX loads it when it starts its GPUs: the Python package's if there is one, else the system's.
    """
    try:
        library = ctypes.CDLL(LIBRARY, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
    except (AttributeError, OSError):  # not on Linux; not loaded
        return None
    library.cudnnGetVersion.restype = ctypes.c_size_t
    return int(library.cudnnGetVersion())


def require_sound_3d(dtype: str) -> None:
    """Checks the loaded cuDNN, if there is one.

    Args:
        dtype: dtype of a network's 3D convolutions.

    Raises:
        ValueError: this version computes them wrongly.
    """
    if dtype == "float32" and jax.config.jax_default_matmul_precision in FULL_PRECISION:
        return
    version = loaded_version()
    first_wrong, first_right = WRONG.get(dtype, (0, 0))
    if version is not None and first_wrong <= version < first_right:
        raise ValueError(
            f"cuDNN {_words(version)} computes 3D convolutions in {dtype} wrongly: install "
            f"{_words(first_right)} or later, as with pip install -U nvidia-cudnn-cu13 "
            "(nvidia-cudnn-cu12 for CUDA 12)."
        )


def _words(version: int) -> str:
    return f"{version // 10_000}.{version // 100 % 100}.{version % 100}"
