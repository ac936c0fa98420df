"""The lung network of Zhang: the original U-Net's widths, dropout in place of BatchNorm."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import layers, network, pooling


class V7UNet(network.Network):
    """A U-Net with biases, ReLU everywhere, and up-sampling followed by 2 x 2 convolutions.

    Zhang, section 4.1. What it leaves open (dropout, he-normal initialisation, the last 3 x 3
    convolution) is as in the public Keras U-Net that it names. It has 31,032,837 parameters with
    widths of 64 to 1024, one class and three input channels.

    Attributes:
        widths: channels of each level, finest first; the last one is the bottleneck.
        num_classes: number of output channels. The convolution before the last one has twice as
            many channels: the paper's 2 for one class, our choice for more.
        in_channels: input channels of the first convolution. The one grey channel is repeated this
            often; the paper's X-rays are RGB files with three equal channels.
        dropout: probability that a value of the two coarsest levels is zeroed in training, 0.5 in
            that Keras U-Net. The skip connection of the second-coarsest level carries the values
            after dropout.
        dtype: compute type, "float32" or "bfloat16"; parameters are float32.
    """

    widths: Sequence[int]
    num_classes: int
    in_channels: int
    dropout: float
    dtype: str

    def __post_init__(self) -> None:
        """Raises ValueError for attributes that no network can have."""
        network.require_dtype(self.dtype)
        network.require_counts("widths", self.widths, at_least=2)
        network.require_count("num_classes", self.num_classes)
        network.require_count("in_channels", self.in_channels)
        good = 0 <= self.dropout < 1
        network.require("dropout", self.dropout, good, "0 or more and less than 1")
        super().__post_init__()

    @nn.nowrap
    def input_multiples(self) -> tuple[int, int]:
        """Returns `2 ** (len(widths) - 1)` twice: every level but the last halves the size."""
        return (2 ** (len(self.widths) - 1),) * 2

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images to logits.

        Args:
            images: [B, H, W, 1] float32 in [0, 1].
            train: use dropout, which draws from the rng "dropout".

        Returns:
            [B, H, W, num_classes] float32 logits.

        Raises:
            ValueError: H or W is no multiple of `2 ** (len(widths) - 1)`.
        """
        remedy = f"change data.image_size ({len(self.widths)} levels)"
        network.require_multiples(images, self.input_multiples(), remedy)
        x = layers.repeat_channel(images, self.in_channels).astype(self.dtype)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        skips = []
        for level, features in enumerate(self.widths[:-1]):
            x = ConvPair(features, self.dtype, name=f"encoder_{level}")(x)
            if level == len(self.widths) - 2:
                x = drop(x)
            skips.append(x)
            x = pooling.max_pool_2x2(x)
        x = drop(ConvPair(self.widths[-1], self.dtype, name="bottleneck")(x))
        for level, features in reversed(list(enumerate(self.widths[:-1]))):
            x = nn.relu(layers.UpsampleConv2x2(features, self.dtype, name=f"up_{level}")(x))
            x = jnp.concatenate([skips[level], x], axis=-1)
            x = ConvPair(features, self.dtype, name=f"decoder_{level}")(x)
        return self._head(x)

    def _head(self, x: jax.Array) -> jax.Array:
        x = nn.relu(layers.conv_3x3(2 * self.num_classes, self.dtype, "before_head")(x))
        # This layer of the Keras U-Net names no initialiser; Keras's default is Glorot uniform.
        init = nn.initializers.glorot_uniform()
        head = nn.Conv(self.num_classes, (1, 1), dtype=self.dtype, kernel_init=init, name="head")
        return head(x).astype(jnp.float32)


class ConvPair(nn.Module):
    """Two blocks of 3 x 3 convolution with bias that keeps the size, and ReLU.

    Attributes:
        features: number of output channels.
        dtype: compute type; parameters are float32.
    """

    features: int
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H, W, features]."""
        for i in range(2):
            x = nn.relu(layers.conv_3x3(self.features, self.dtype, f"conv_{i}")(x))
        return x
