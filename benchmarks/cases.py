"""The cases of the suites: shipped configs with some fields changed, for CPUs and accelerators."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections as mlc

from jaxlung.config import config_file

NO_DATA = "/nonexistent"  # No data are prepared there, so benchmarks generate records in memory.


@dataclasses.dataclass(frozen=True)
class Case:
    """One config at one size.

    Attributes:
        name: the case's name in tables.
        config: name of a shipped config, with or without a variant.
        fields: dotted field -> value.
    """

    name: str
    config: str
    fields: Mapping[str, Any]

    @property
    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of `load`, ready for JSON."""
        return {"config": self.config, "fields": dict(self.fields)}


def load(config: str, fields: Mapping[str, Any]) -> mlc.ConfigDict:
    """Loads a shipped config and changes fields; without "data.data_dir" its data are generated."""
    loaded = config_file.load(config_file.resolve(config))
    loaded.update_from_flattened_dict({"data.data_dir": NO_DATA, **fields})
    return loaded


def _images(size: int, batch_size: int, dtype: str = "bfloat16") -> dict[str, Any]:
    return {"data.image_size": size, "data.batch_size": batch_size, "model.dtype": dtype}


def _patches(
    size: tuple[int, int, int], batch_size: int, dtype: str = "bfloat16"
) -> dict[str, Any]:
    return {"data.patch_size": size, "data.batch_size": batch_size, "model.dtype": dtype}


# 31.8 M parameters in the form of nnU-Net (Isensee et al., 2021): six levels, strides of 2, at most
# 320 channels, deep supervision. Ours has residual blocks and BatchNorm; nnU-Net has plain blocks
# and InstanceNorm.
NNUNET_FORM = {
    "model.widths": (32, 64, 128, 256, 320, 320),
    "model.strides": 5 * ((2, 2, 2),),
    "model.attention": "none",
    "model.paspp": False,
}
CUBE = (128, 128, 128)

# In the order of measuring. The most important cases come first, in case time runs out.
ACCELERATOR = (
    Case("covidqu", "covidqu", _images(256, 64)),
    Case("covidqu", "covidqu", _images(256, 256)),
    Case("nnU-Net form", "covid19_ct", _patches(CUBE, 2) | NNUNET_FORM),
    Case("covidqu", "covidqu", _images(256, 16)),
    Case("covid19_ct", "covid19_ct", _patches((8, 128, 128), 5)),
    Case("cxr_lungs", "cxr_lungs", _images(512, 16)),
    Case("v7_lungs", "v7_lungs", _images(256, 32)),
    Case("covidqu", "covidqu", _images(256, 64, "float32")),
    Case("covidqu", "covidqu", _images(256, 512)),
    Case("covidqu", "covidqu", _images(256, 128)),
    Case("covid19_ct", "covid19_ct", _patches(CUBE, 2)),
    Case("v7_diagnosis", "v7_diagnosis", _images(256, 32)),
    Case("covidqu", "covidqu", _images(256, 16, "float32")),
    Case("nnU-Net form", "covid19_ct", _patches(CUBE, 2, "float32") | NNUNET_FORM),
    Case("covid19_ct", "covid19_ct", _patches((8, 128, 128), 5, "float32")),
    Case("cxr_lungs", "cxr_lungs", _images(512, 16, "float32")),
    Case("v7_lungs", "v7_lungs", _images(256, 32, "float32")),
    Case("covidqu", "covidqu", _images(256, 128, "float32")),
    Case("covidqu", "covidqu", _images(256, 256, "float32")),
    Case("covidqu", "covidqu", _images(256, 512, "float32")),
)
# Of each config the case that one would train; the batch is that of a device.
COMPILED = (
    Case("covidqu", "covidqu", _images(256, 64)),
    Case("nnU-Net form", "covid19_ct", _patches(CUBE, 2) | NNUNET_FORM),
    Case("covid19_ct", "covid19_ct", _patches((8, 128, 128), 5)),
    Case("covidqu", "covidqu", _images(256, 16)),
    Case("covidqu_residual", "covidqu_residual", _images(256, 16)),
    Case("v7_lungs", "v7_lungs", _images(256, 32)),
    Case("cxr_lungs", "cxr_lungs", _images(512, 16)),
    Case("v7_diagnosis", "v7_diagnosis", _images(256, 32)),
    Case("covidqu", "covidqu", _images(256, 4)),
)
SLIM = {"model.widths": (16, 32, 64, 128, 256)}
CPU = (
    Case("covidqu", "covidqu", _images(64, 8, "float32")),
    Case("covidqu, widths from 16", "covidqu", _images(256, 8, "float32") | SLIM),
    Case("covidqu phantom", "covidqu:phantom", {}),
    Case("cxr_lungs", "cxr_lungs", _images(128, 4, "float32") | {"model.border": 4}),
    Case("v7_lungs phantom", "v7_lungs:phantom", {}),
    Case("v7_diagnosis phantom", "v7_diagnosis:phantom", {}),
    Case("covid19_ct phantom", "covid19_ct:phantom", {}),
)
QUICK = (
    Case("covidqu quick", "covidqu:quick", {}),
    Case("covid19_ct quick", "covid19_ct:quick", {}),
)
