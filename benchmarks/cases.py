"""What the suites measure: shipped configs with some fields changed, for CPUs and accelerators."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections as mlc

from jaxlung.config import config_file

NO_DATA = "/nonexistent"  # Nothing is prepared there: benchmarks generate records in memory.


@dataclasses.dataclass(frozen=True)
class Case:
    """One config at one size.

    Attributes:
        name: in tables.
        config: name of a shipped config, perhaps with a variant.
        fields: dotted field -> value.
    """

    name: str
    config: str
    fields: Mapping[str, Any]

    @property
    def arguments(self) -> dict[str, Any]:
        """What `load` takes, for JSON."""
        return {"config": self.config, "fields": dict(self.fields)}


def load(config: str, fields: Mapping[str, Any]) -> mlc.ConfigDict:
    """A shipped config with some fields changed; generated data unless `fields` name a folder."""
    loaded = config_file.load(config_file.resolve(config))
    loaded.update_from_flattened_dict({"data.data_dir": NO_DATA, **fields})
    return loaded


def _images(size: int, batch_size: int, dtype: str = "bfloat16") -> dict[str, Any]:
    return {"data.image_size": size, "data.batch_size": batch_size, "model.dtype": dtype}


def _patches(
    size: tuple[int, int, int], batch_size: int, dtype: str = "bfloat16"
) -> dict[str, Any]:
    return {"data.patch_size": size, "data.batch_size": batch_size, "model.dtype": dtype}


# 31.8 M parameters in the form of nnU-Net (Isensee, 2021): six levels, strides of 2, at most 320
# channels, deep supervision. Ours has residual blocks and BatchNorm where that has plain blocks and
# InstanceNorm.
NNUNET_FORM = {
    "model.widths": (32, 64, 128, 256, 320, 320),
    "model.strides": 5 * ((2, 2, 2),),
    "model.attention": "none",
    "model.paspp": False,
}
CUBE = (128, 128, 128)

# In the order in which they are measured: what matters most is first, should time run out.
ACCELERATOR = (
    Case("000", "covidqu", _images(256, 64)),
    Case("000", "covidqu", _images(256, 256)),
    Case("nnU-Net form", "covid19_ct", _patches(CUBE, 2) | NNUNET_FORM),
    Case("000", "covidqu", _images(256, 16)),
    Case("004", "covid19_ct", _patches((8, 128, 128), 5)),
    Case("002", "cxr_lungs", _images(512, 16)),
    Case("003 lungs", "v7_lungs", _images(256, 32)),
    Case("000", "covidqu", _images(256, 64, "float32")),
    Case("000", "covidqu", _images(256, 512)),
    Case("000", "covidqu", _images(256, 128)),
    Case("004", "covid19_ct", _patches(CUBE, 2)),
    Case("003 diagnosis", "v7_diagnosis", _images(256, 32)),
    Case("000", "covidqu", _images(256, 16, "float32")),
    Case("nnU-Net form", "covid19_ct", _patches(CUBE, 2, "float32") | NNUNET_FORM),
    Case("004", "covid19_ct", _patches((8, 128, 128), 5, "float32")),
    Case("002", "cxr_lungs", _images(512, 16, "float32")),
    Case("003 lungs", "v7_lungs", _images(256, 32, "float32")),
    Case("000", "covidqu", _images(256, 128, "float32")),
    Case("000", "covidqu", _images(256, 256, "float32")),
    Case("000", "covidqu", _images(256, 512, "float32")),
)
SLIM = {"model.widths": (16, 32, 64, 128, 256)}
CPU = (
    Case("000", "covidqu", _images(64, 8, "float32")),
    Case("000, widths from 16", "covidqu", _images(256, 8, "float32") | SLIM),
    Case("000 phantom", "covidqu:phantom", {}),
    Case("002", "cxr_lungs", _images(128, 4, "float32") | {"model.border": 4}),
    Case("003 lungs phantom", "v7_lungs:phantom", {}),
    Case("003 diagnosis phantom", "v7_diagnosis:phantom", {}),
    Case("004 phantom", "covid19_ct:phantom", {}),
)
QUICK = (
    Case("000 quick", "covidqu:quick", {}),
    Case("004 quick", "covid19_ct:quick", {}),
)
