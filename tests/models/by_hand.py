"""Keras's layers in NumPy float64, tap by tap: what the networks are compared with."""

import numpy as np


def conv(x, layer, stride=1, padding="same"):
    """Keras's Conv2D of [B, H, W, C]; "same" puts the odd row or column of zeros last."""
    kernel = np.asarray(layer["kernel"], np.float64)
    size = kernel.shape[0]
    out = [n if padding == "same" else n - size + 1 for n in x.shape[1:3]]
    out = [-(-n // stride) for n in out]
    if padding == "same":
        total = [
            max((o - 1) * stride + size - n, 0) for o, n in zip(out, x.shape[1:3], strict=True)
        ]
        x = np.pad(x, ((0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)))
    y = np.zeros((x.shape[0], *out, kernel.shape[3]))
    for a in range(size):
        for b in range(size):
            seen = x[:, a:, b:][:, ::stride, ::stride][:, : out[0], : out[1]]
            y += seen @ kernel[a, b]
    return y + np.asarray(layer.get("bias", 0.0), np.float64)


def dense(x, layer):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)


def norm(x, layer, stats=None):
    """BatchNorm with running statistics, or with the batch's if there are none."""
    mean = x.mean((0, 1, 2)) if stats is None else np.asarray(stats["mean"], np.float64)
    var = x.var((0, 1, 2)) if stats is None else np.asarray(stats["var"], np.float64)
    scale, bias = (np.asarray(layer[name], np.float64) for name in ("scale", "bias"))
    return (x - mean) / np.sqrt(var + 1e-5) * scale + bias


def relu(x, slope=0.0):
    return np.where(x > 0, x, slope * x)


def max_pool(x):
    """2 x 2 windows that fit."""
    height, width = x.shape[1] // 2, x.shape[2] // 2
    windows = [x[:, a : 2 * height : 2, b : 2 * width : 2] for a in (0, 1) for b in (0, 1)]
    return np.max(windows, axis=0)


def upsample(x):
    return np.repeat(np.repeat(x, 2, axis=1), 2, axis=2)
