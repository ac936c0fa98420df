"""The blocks of Lin and Huang in NumPy float64, tap by tap: what JAX is compared with.

Everything takes x [B, D, H, W, C], parameters, and running statistics or None for the batch's.
"""

import itertools

import numpy as np

from tests.models.by_hand import relu


def array(x):
    return np.asarray(x, np.float64)


def conv(x, layer, strides=(1, 1, 1), rates=(1, 1, 1)):
    """3 x 3 x 3 taps `rates` apart, `rates` zeros around."""
    kernel = array(layer["kernel"])
    sizes = [-(-n // s) for n, s in zip(x.shape[1:4], strides, strict=True)]
    padded = np.pad(x, ((0, 0), *((r, r) for r in rates), (0, 0)))
    y = np.zeros((x.shape[0], *sizes, kernel.shape[-1]))
    for taps in itertools.product(range(3), repeat=3):
        start = [tap * rate for tap, rate in zip(taps, rates, strict=True)]
        seen = padded[:, start[0] :, start[1] :, start[2] :]
        seen = seen[:, :: strides[0], :: strides[1], :: strides[2]]
        seen = seen[:, : sizes[0], : sizes[1], : sizes[2]]
        y += np.einsum("bdhwc,cf->bdhwf", seen, kernel[taps])
    return y + array(layer.get("bias", 0.0))


def dense(x, layer):
    return x @ array(layer["kernel"]) + array(layer.get("bias", 0.0))


def norm(x, layer, stats):
    mean = array(stats["mean"]) if stats else x.mean((0, 1, 2, 3))
    var = array(stats["var"]) if stats else x.var((0, 1, 2, 3))
    return (x - mean) / np.sqrt(var + 1e-5) * array(layer["scale"]) + array(layer["bias"])


def conv_norm(x, params, stats, strides=(1, 1, 1), rates=(1, 1, 1)):
    layer = params["conv"]
    if array(layer["kernel"]).ndim == 2:
        y = dense(x[:, :: strides[0], :: strides[1], :: strides[2]], layer)
    else:
        y = conv(x, layer, strides, rates)
    return norm(y, params["norm"], stats and stats["norm"])


def inside(stats, name):
    return stats and stats[name]


def residual(x, params, stats, strides=(1, 1, 1)):
    y = relu(conv_norm(x, params["first"], inside(stats, "first"), strides))
    y = conv_norm(y, params["second"], inside(stats, "second"))
    if "shortcut" in params:
        x = conv_norm(x, params["shortcut"], inside(stats, "shortcut"), strides)
    return relu(y + x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def feature_variation(x, params, stats):
    f = relu(conv_norm(x, params["features"], inside(stats, "features")))
    squeezed = relu(dense(f.mean((1, 2, 3)), params["gate"]["squeeze"]))
    # One gate per channel or one for all: NumPy broadcasts either.
    gate = sigmoid(dense(squeezed, params["gate"]["excite"]))[:, None, None, None]
    place = sigmoid(conv(relu(conv(f, params["map"]["conv_0"])), params["map"]["conv_1"]))
    joined = np.concatenate([gate * f, place * f, f], axis=-1)
    return x + relu(conv_norm(joined, params["fuse"], inside(stats, "fuse")))


def pyramid(x, params, stats, rates):
    """Four separate 1 x 1 x 1 convolutions: quarters of "reduce"."""
    quarter = x.shape[-1] // 4
    views, atrous = [], []
    for i in range(4):
        part = slice(i * quarter, (i + 1) * quarter)
        y = x @ array(params["reduce"]["conv"]["kernel"])[:, part]
        of_part = {k: array(v)[part] for k, v in params["reduce"]["norm"].items()}
        running = stats and {k: array(v)[part] for k, v in stats["reduce"]["norm"].items()}
        views.append(relu(norm(y, of_part, running)))
        name = f"atrous_{i}"
        y = conv_norm(views[i], params[name], inside(stats, name), rates=rates[i])
        atrous.append(relu(y))
    first = [atrous[0] + views[0] + views[1], atrous[1] + views[0] + views[1]]
    second = [atrous[2] + views[2] + views[3], atrous[3] + views[2] + views[3]]
    pairs = [
        relu(conv_norm(np.concatenate(pair, -1), params[name], inside(stats, name)))
        for name, pair in (("pair_0", first), ("pair_1", second))
    ]
    return relu(conv_norm(np.concatenate(pairs, -1), params["join"], inside(stats, "join")))


def up_conv(x, layer):
    """Every voxel becomes a window of its products with the kernel's entries."""
    kernel = array(layer["kernel"])
    strides = kernel.shape[:3]
    sizes = [n * s for n, s in zip(x.shape[1:4], strides, strict=True)]
    y = np.zeros((x.shape[0], *sizes, kernel.shape[-1]))
    for a, b, c in itertools.product(*map(range, strides)):
        y[:, a :: strides[0], b :: strides[1], c :: strides[2]] = x @ kernel[a, b, c]
    return y + array(layer["bias"])


def upsample(x, factors):
    for axis, factor in enumerate(factors, start=1):
        x = np.repeat(x, factor, axis=axis)
    return x
