"""Copies parameters and running statistics from Flax to a PyTorch module of the same names."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def copy(flat: Mapping[str, np.ndarray], module: nn.Module) -> None:
    """Copies `flat` into `module`, in place.

    Args:
        flat: path, such as "encoder_0/conv_0/kernel" -> array; parameters and statistics together.
        module: module with submodules of the same names, such as "encoder_0.conv_0".

    Raises:
        ValueError: an array has no counterpart, or one of another shape.
    """
    own = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    kinds = dict(module.named_modules())
    copied = set()
    for path, array in flat.items():
        *parents, leaf = path.split("/")
        parent = ".".join(parents)
        name = f"{parent}.{NAMES.get(leaf, leaf)}"
        if name not in own:
            raise ValueError(f"peers: Flax's {path} has no counterpart {name} in PyTorch.")
        want = tuple(own[name].shape)
        if leaf == "kernel":
            array = _kernel(array, kinds[parent], want)
        if array.shape != want:
            raise ValueError(f"peers: {path}: got {array.shape}, want {want}.")
        own[name].copy_(torch.from_numpy(np.array(array)))
        copied.add(name)
    if left := sorted(set(own) - copied):
        raise ValueError(f"peers: PyTorch's {left[0]} has no counterpart in Flax.")


def _kernel(array: np.ndarray, kind: nn.Module, shape: tuple[int, ...]) -> np.ndarray:
    """Transposes [*window, in, out] to [out, in, *window]; [in, out, *window] if transposed."""
    if array.ndim == 2:  # A dense layer here may be a convolution of size 1 there.
        return array.T.reshape(shape)
    window = tuple(range(array.ndim - 2))
    channels, features = array.ndim - 2, array.ndim - 1
    if isinstance(kind, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
        return array.transpose(channels, features, *window)
    return array.transpose(features, channels, *window)
