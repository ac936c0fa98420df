"""Networks by name: a new one is one file here and one line in `MODELS`."""

from jaxlung.models.unet import UNet

MODELS = {
    "unet": UNet,
}
