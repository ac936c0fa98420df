"""The diagnosis network of Zhang: one logit for a whole X-ray."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import layers, network, pooling


class DiagnosisCNN(network.Network):
    """Convolutions with pooling, then two dense layers.

    Zhang, section 5.1, which names neither numbers of filters nor padding nor initialisation. Our
    choice is 32 and 64 filters, no padding, and Keras's default, Glorot uniform. It has 14,027,841
    parameters for the paper's input of 246 x 236 pixels with three channels. The first dense layer
    has a weight for every position, so all images must have the size of the first.

    Attributes:
        filters: channels of each 3 x 3 convolution; each is followed by ReLU and 2 x 2 max-pooling.
        dense: number of features of the first dense layer.
        in_channels: input channels of the first convolution. The one grey channel is repeated this
            often; the paper's X-rays are RGB files with three equal channels.
        dtype: compute type, "float32" or "bfloat16"; parameters are float32.
    """

    filters: Sequence[int]
    dense: int
    in_channels: int
    dtype: str

    def __post_init__(self) -> None:
        """Raises ValueError for attributes that no network can have."""
        network.require_dtype(self.dtype)
        network.require_counts("filters", self.filters, at_least=1)
        network.require_count("dense", self.dense)
        network.require_count("in_channels", self.in_channels)
        super().__post_init__()

    @nn.nowrap
    def input_multiples(self) -> tuple[None, None]:
        """Returns None twice: the first dense layer has a weight for every position."""
        return None, None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images to logits.

        Args:
            images: [B, H, W, 1] float32 in [0, 1].
            train: unused; no layer differs in training.

        Returns:
            [B, 1, 1, 1] float32 logits. A map of one pixel is treated like any other map.

        Raises:
            ValueError: H or W is too small for the convolutions.
        """
        del train
        self._require_room(*images.shape[1:3])
        x = layers.repeat_channel(images, self.in_channels).astype(self.dtype)
        init = nn.initializers.glorot_uniform()
        for i, features in enumerate(self.filters):
            conv = nn.Conv(
                features,
                (3, 3),
                padding="VALID",
                dtype=self.dtype,
                kernel_init=init,
                name=f"conv_{i}",
            )
            x = _pool_whole_windows(nn.relu(conv(x)))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(self.dense, dtype=self.dtype, kernel_init=init, name="dense")(x))
        x = nn.Dense(1, dtype=self.dtype, kernel_init=init, name="head")(x)
        return x.astype(jnp.float32).reshape(-1, 1, 1, 1)

    def _require_room(self, height: int, width: int) -> None:
        smallest = 3 * 2 ** len(self.filters) - 2
        if min(height, width) < smallest:
            raise ValueError(
                f"model: got images of {height} x {width}, want at least {smallest} x {smallest} "
                f"({len(self.filters)} convolutions and poolings); change data.image_size."
            )


def _pool_whole_windows(x: jax.Array) -> jax.Array:
    """Returns 2 x 2 max-pooling without the last row or column of an odd size, as in Keras."""
    height, width = x.shape[1:3]
    return pooling.max_pool_2x2(x[:, : height // 2 * 2, : width // 2 * 2])
