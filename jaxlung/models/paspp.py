"""Progressive atrous spatial pyramid pooling (Yan 2021; Lin and Huang)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import layers_3d

BRANCHES = 4


class PASPP(nn.Module):
    """Four views of a quarter of the channels at growing distances, joined by pairs, then all.

    With `x_i = conv1_i(x)` of C / 4 channels and `y_i = atrous_i(x_i)`: `[y_1 + s, y_2 + s]` with
    `s = x_1 + x_2`, and likewise 3 and 4, go through a 1 x 1 x 1 convolution each, their
    concatenation through a last one (Lin and Huang, section 2.2 and Figure 3). Ours: every
    convolution has no bias and is followed by BatchNorm and ReLU, and keeps its channels but the
    first four. Those four are computed as one from C to C channels, which is the same.

    Attributes:
        rates: of the four atrous convolutions, each along D, H, W.
        dtype: compute type; parameters and statistics are float32.
    """

    rates: Sequence[layers_3d.Triple]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, D, H, W, C] to the same, C a multiple of 4; `train` uses batch statistics."""

        def conv(x: jax.Array, features: int, name: str, **kwargs: object) -> jax.Array:
            layer = layers_3d.ConvNorm(features, dtype=self.dtype, name=name, **kwargs)
            return nn.relu(layer(x, train=train))

        channels = x.shape[-1]
        views = jnp.split(conv(x, channels, "reduce", size=1), BRANCHES, axis=-1)
        atrous = [
            conv(view, channels // BRANCHES, f"atrous_{i}", rates=rates)
            for i, (view, rates) in enumerate(zip(views, self.rates, strict=True))
        ]
        pairs = []
        for i in (0, 2):
            both = views[i] + views[i + 1]
            pair = jnp.concatenate([atrous[i] + both, atrous[i + 1] + both], axis=-1)
            pairs.append(conv(pair, channels // 2, f"pair_{i // 2}", size=1))
        return conv(jnp.concatenate(pairs, axis=-1), channels, "join", size=1)
