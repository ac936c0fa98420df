"""The U-Net of Nguyen Xuan Tung: residual blocks on the way down, plain ones on the way up."""

from typing import ClassVar

import flax.linen as nn

from jaxlung.models import layers, unet


class ResidualUNet(unet.UNet):
    """`unet.UNet` whose encoder levels and bottleneck are `layers.ResidualDoubleConv`.

    Nguyen Xuan Tung, section 3.1; the decoder, the attributes and the errors are the U-Net's. That
    the bottleneck belongs to the encoder is our reading.
    """

    encoder_block: ClassVar[type[nn.Module]] = layers.ResidualDoubleConv
