"""The U-Net of Nguyen Xuan Tung: residual blocks in the encoder, plain ones in the decoder."""

from typing import ClassVar

import flax.linen as nn

from jaxlung.models import layers, paired, unet


class ResidualUNet(unet.UNet):
    """A `unet.UNet` whose encoder levels and bottleneck are `layers.ResidualDoubleConv`.

    Nguyen Xuan Tung, section 3.1. The decoder, the attributes and the errors are those of
    `unet.UNet`. That the bottleneck belongs to the encoder is our reading.
    """

    encoder_block: ClassVar[type[nn.Module]] = layers.ResidualDoubleConv
    paired_block: ClassVar[type[nn.Module]] = paired.ResidualDoubleConv
