"""Networks by name: a new one is a file in this folder and a line in `MODELS`."""

from jaxlung.models.diagnosis_cnn import DiagnosisCNN
from jaxlung.models.fv_paspp_unet import FvPasppUNet
from jaxlung.models.network import Network
from jaxlung.models.residual_unet import ResidualUNet
from jaxlung.models.slim_unet import SlimUNet
from jaxlung.models.unet import UNet
from jaxlung.models.v7_unet import V7UNet

MODELS: dict[str, type[Network]] = {
    "unet": UNet,
    "residual_unet": ResidualUNet,
    "slim_unet": SlimUNet,
    "v7_unet": V7UNet,
    "diagnosis_cnn": DiagnosisCNN,
    "fv_paspp_unet": FvPasppUNet,
}
