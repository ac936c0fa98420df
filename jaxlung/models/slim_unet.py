"""The slim U-Net of Bartels et al.: lungs at 512 x 512 with 99,589 parameters."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import layers, network

ENCODER = ((8, 1), (16, 2), (32, 2), (32, 2), (32, 2))  # channels and stride of each convolution
# Channels of each level's convolutions, coarsest level first.
DECODER = ((32,), (32,), (32,), (32, 32), (16,))
MULTIPLE = 2 ** (len(ENCODER) - 1)  # Height and width must be multiples of this.
CLIP = 1e-7  # Keras's cross-entropy keeps probabilities this far from 0 and 1.


class SlimUNet(network.Network):
    """A U-Net with strided convolutions in place of pooling, and LeakyReLU.

    Bartels et al., Figure 2, a table that fixes the widths. It counts 99,589 parameters, two of
    which are the running statistics of the only BatchNorm, the first layer. Its momentum and
    epsilon are our choice (`layers.batch_norm`). The he-normal kernels, the noise and the slope are
    those of the code that the authors started from. Parameters lie in "encoder" and "decoder", so
    that either can be frozen by its path.

    Attributes:
        num_classes: number of output channels.
        noise_std: standard deviation of the noise that is added to images in training, 0.25 in that
            code.
        leaky_slope: slope of LeakyReLU below 0, 0.2 in that code.
        border: number of pixels at each edge of the output whose probability is set to 0; the paper
            has 48 at a size of 512. Their logit is log(1e-7 / (1 - 1e-7)), where Keras clips, so
            that a lung pixel there costs 16 nats and not infinity. 0 for no border.
        dtype: compute type, "float32" or "bfloat16"; parameters and statistics are float32.
    """

    num_classes: int
    noise_std: float
    leaky_slope: float
    border: int
    dtype: str

    def __post_init__(self) -> None:
        """Raises ValueError for attributes that no network can have."""
        network.require_dtype(self.dtype)
        network.require_count("num_classes", self.num_classes)
        network.require("noise_std", self.noise_std, self.noise_std >= 0, "0 or more")
        slope = self.leaky_slope
        network.require("leaky_slope", slope, 0 <= slope < 1, "0 or more and less than 1")
        network.require("border", self.border, self.border >= 0, "0 or more pixels")
        super().__post_init__()

    @nn.nowrap
    def input_multiples(self) -> tuple[None, None]:
        """Returns None twice: a border in pixels suits only the size that it was chosen for."""
        return None, None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images to logits.

        Args:
            images: [B, H, W, 1] float32 in [0, 1].
            train: add noise, which draws from the rng "dropout", and use and update the statistics
                of this batch.

        Returns:
            [B, H, W, num_classes] float32 logits.

        Raises:
            ValueError: H or W is no multiple of 16, or no larger than two borders.
        """
        network.require_multiples(images, (MULTIPLE, MULTIPLE), "change data.image_size")
        self._require_inside(*images.shape[1:3])
        if train and self.noise_std > 0:
            noise = jax.random.normal(self.make_rng("dropout"), images.shape, jnp.float32)
            images = images + self.noise_std * noise
        x = images.astype(self.dtype)
        skips = Encoder(self.leaky_slope, self.dtype, name="encoder")(x, train=train)
        decoder = Decoder(self.num_classes, self.leaky_slope, self.dtype, name="decoder")
        return self._without_border(decoder(skips).astype(jnp.float32))

    def _without_border(self, logits: jax.Array) -> jax.Array:
        height, width = logits.shape[1:3]
        edge = self.border
        inside = logits[:, edge : height - edge, edge : width - edge]
        outside = math.log(CLIP / (1 - CLIP))
        pad = ((0, 0), (edge, edge), (edge, edge), (0, 0))
        return jnp.pad(inside, pad, constant_values=outside)

    def _require_inside(self, height: int, width: int) -> None:
        if 2 * self.border >= min(height, width):
            raise ValueError(
                f"model.border: got {self.border} pixels at each edge of images of "
                f"{height} x {width}, want less than half the size."
            )


class Encoder(nn.Module):
    """BatchNorm, then five 3 x 3 convolutions with LeakyReLU; the last four have stride 2.

    Attributes:
        leaky_slope: slope of LeakyReLU below 0.
        dtype: compute type.
    """

    leaky_slope: float
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Maps [B, H, W, 1] to five outputs, from [B, H, W, 8] to [B, H / 16, W / 16, 32]."""
        x = layers.batch_norm(train=train, dtype=self.dtype, name="norm")(x)
        outputs = []
        for i, (features, stride) in enumerate(ENCODER):
            x = layers.conv_3x3(features, self.dtype, f"conv_{i}", stride)(x)
            x = nn.leaky_relu(x, self.leaky_slope)
            outputs.append(x)
        return outputs


class Decoder(nn.Module):
    """Levels of x2 up-sampling, concatenation with a skip connection and 3 x 3 convolutions.

    The first level has neither up-sampling nor skip connection. LeakyReLU follows every convolution
    but the last one, which makes the logits.

    Attributes:
        num_classes: number of output channels.
        leaky_slope: slope of LeakyReLU below 0.
        dtype: compute type.
    """

    num_classes: int
    leaky_slope: float
    dtype: str

    @nn.compact
    def __call__(self, skips: list[jax.Array]) -> jax.Array:
        """Maps the encoder's outputs to logits [B, H, W, num_classes] of the compute type."""
        *skips, x = skips
        activation = functools.partial(nn.leaky_relu, negative_slope=self.leaky_slope)
        i = 0
        for level, widths in enumerate(DECODER):
            if level > 0:
                x = jnp.concatenate([layers.upsample(x, (2, 2)), skips[-level]], axis=-1)
            for features in widths:
                x = activation(layers.conv_3x3(features, self.dtype, f"conv_{i}")(x))
                i += 1
        return layers.conv_3x3(self.num_classes, self.dtype, "head")(x)
