"""Progressive atrous spatial pyramid pooling (Yan 2021; Lin and Huang)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import layers_3d, norm_sum

BRANCHES = 4


class PASPP(nn.Module):
    """Four dilated ("atrous") convolutions of a quarter of the channels each, joined in two steps.

    Let `x_i = conv1_i(x)`, with C / 4 channels, and `y_i = atrous_i(x_i)`. Then
    `[y_1 + s, y_2 + s]` with `s = x_1 + x_2` goes through a 1 x 1 x 1 convolution,
    `[y_3 + t, y_4 + t]` with `t = x_3 + x_4` through another one, and both results together through
    a last one (Lin and Huang, section 2.2 and Figure 3).

    Our choice: no convolution has a bias, each is followed by BatchNorm and ReLU, and all but
    `conv1_i` keep the number of channels. The four `conv1_i` are computed as one convolution from C
    to C channels, which is the same.

    Attributes:
        rates: distances of the taps of the four atrous convolutions, each along D, H, W.
        dtype: compute type; parameters and statistics are float32.
    """

    rates: Sequence[layers_3d.Triple]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, D, H, W, C] to the same shape; C must be a multiple of 4.

        `train` uses and updates batch statistics.
        """

        def conv(
            x: jax.Array,
            features: int,
            name: str,
            size: int = 1,
            rates: layers_3d.Triple = layers_3d.ONES,
        ) -> jax.Array:
            layer = layers_3d.ConvNorm(features, size, rates=rates, dtype=self.dtype, name=name)
            return norm_sum.add_relu((layer(x, train=train),))

        channels = x.shape[-1]
        views = jnp.split(conv(x, channels, "reduce"), BRANCHES, axis=-1)
        atrous = [
            conv(view, channels // BRANCHES, f"atrous_{i}", 3, rates)
            for i, (view, rates) in enumerate(zip(views, self.rates, strict=True))
        ]
        pairs = []
        for i in (0, 2):
            both = views[i] + views[i + 1]
            pair = jnp.concatenate([atrous[i] + both, atrous[i + 1] + both], axis=-1)
            pairs.append(conv(pair, channels // 2, f"pair_{i // 2}"))
        return conv(jnp.concatenate(pairs, axis=-1), channels, "join")
