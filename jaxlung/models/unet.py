"""The U-Net of Nguyen Xuan Minh Vu: Ronneberger's (2015), padded, with BatchNorm."""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import layers, network, paired


class UNet(network.Network):
    """A U-Net with padded convolutions, BatchNorm, 2 x 2 max-pooling and 2 x 2 up-convolutions.

    Nguyen Xuan Minh Vu, section 4.2. The widths (64 to 1024) are the original U-Net's: our choice.

    Attributes:
        widths: channels of each level, finest first; the last one is the bottleneck.
        num_classes: number of output channels.
        head_norm: use BatchNorm after the last 1 x 1 convolution, as in the paper. Without it the
            convolution has a bias instead, and logits grow faster in short runs.
        pad_input: pad images of other sizes up to the next multiple of `2 ** (len(widths) - 1)` by
            repeating their edge, and crop the logits; otherwise such a size is an error.
        dtype: compute type, "float32" or "bfloat16"; parameters and statistics are float32.
        in_pairs: compute the finest level with its columns in pairs (see `paired`), in which TPUs
            are faster. It changes no result. Configs leave it out; see `for_platform`.
        dilated: see `layers.UpConv2x2`; likewise.

    The class attribute `encoder_block` is the module of the encoder's levels and the bottleneck,
    and `paired_block` the same module in pairs. Subclasses replace them.
    """

    widths: Sequence[int]
    num_classes: int
    head_norm: bool
    pad_input: bool
    dtype: str
    in_pairs: bool = False
    dilated: bool = False
    encoder_block: ClassVar[type[nn.Module]] = layers.DoubleConv
    paired_block: ClassVar[type[nn.Module]] = paired.DoubleConv

    def __post_init__(self) -> None:
        """Raises ValueError for attributes that no network can have."""
        network.require_dtype(self.dtype)
        network.require_counts("widths", self.widths, at_least=2)
        super().__post_init__()

    @nn.nowrap
    def input_multiples(self) -> tuple[int, int]:
        """Returns `2 ** (len(widths) - 1)` twice; `pad_input` pads other sizes up to it."""
        return (2 ** (len(self.widths) - 1),) * 2

    @nn.nowrap
    def for_platform(self, platform: str) -> "UNet":
        """See `network.Network.for_platform`: TPUs compute up to 64 channels in pairs."""
        is_tpu = platform == "tpu"
        in_pairs = is_tpu and self.widths[0] <= paired.MOST_CHANNELS
        return self.clone(in_pairs=in_pairs, dilated=is_tpu)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images to logits.

        Args:
            images: [B, H, W, 1] float32 in [0, 1].
            train: use and update the statistics of this batch.

        Returns:
            [B, H, W, num_classes] float32 logits.

        Raises:
            ValueError: H or W is no multiple of `2 ** (len(widths) - 1)`, without `pad_input`.
        """
        height, width = images.shape[1:3]
        x = self._to_multiple(images).astype(self.dtype)
        skips = []
        for level, features in enumerate(self.widths[:-1]):
            if self._is_paired(level):
                block = self.paired_block(features, self.dtype, name=f"encoder_{level}")
                skip = block(paired.pair(x), train=train)
                x = paired.max_pool_2x2(skip)
            else:
                block = self.encoder_block(features, self.dtype, pool=True, name=f"encoder_{level}")
                skip, x = block(x, train=train)
            skips.append(skip)
        x = self.encoder_block(self.widths[-1], self.dtype, name="bottleneck")(x, train=train)
        for level, features in reversed(list(enumerate(self.widths[:-1]))):
            in_pairs = self._is_paired(level)
            up = layers.UpConv2x2(features, self.dtype, in_pairs, self.dilated, name=f"up_{level}")
            x = up(x)
            if in_pairs:
                block = paired.DoubleConv(features, self.dtype, name=f"decoder_{level}")
                x = block(skips[level], x, train=train)
            else:
                x = jnp.concatenate([skips[level], x], axis=-1)
                x = layers.DoubleConv(features, self.dtype, name=f"decoder_{level}")(x, train=train)
        logits = self._head(x, train)
        return logits[:, :height, :width]

    def _is_paired(self, level: int) -> bool:
        return self.in_pairs and level == 0

    def _head(self, x: jax.Array, train: bool) -> jax.Array:
        bias = not self.head_norm
        # The logits are float32 whatever the compute type.
        if self.in_pairs:
            x = paired.Conv(self.num_classes, 1, bias, self.dtype, name="head")([x])
            x = paired.unpair(x).astype(jnp.float32)
        else:
            x = layers.PixelDense(self.num_classes, bias, self.dtype, name="head")(x)
        if self.head_norm:
            x = layers.batch_norm(train=train, dtype="float32", name="head_norm")(x)
        return x

    def _to_multiple(self, images: jax.Array) -> jax.Array:
        multiples = self.input_multiples()
        if not self.pad_input:
            remedy = "change data.image_size or set model.pad_input=True"
            network.require_multiples(images, multiples, f"{remedy} ({len(self.widths)} levels)")
        for axis, multiple in enumerate(multiples, start=1):
            missing = -images.shape[axis] % multiple
            edge = jax.lax.slice_in_dim(images, -1, None, axis=axis)
            # jnp.pad would add empty arrays where nothing is missing, which ONNX misreads.
            images = jnp.concatenate([images, *[edge] * missing], axis=axis)
        return images
