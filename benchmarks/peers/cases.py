"""The cases: a config of jaxlung, changes of its fields, and a network in PyTorch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections as mlc

from benchmarks import cases as suite_cases
from jaxlung.config import config_file, defaults


@dataclasses.dataclass(frozen=True)
class Case:
    """One network at one size.

    Attributes:
        config: name of a shipped config.
        changes: dotted field -> value.
        network: PyTorch's network; "": the same; or a name for `torch_networks.make_network`.
    """

    config: str
    changes: Mapping[str, Any]
    network: str = ""


def _images(size: int, batch_size: int) -> dict[str, Any]:
    return {"data.image_size": size, "data.batch_size": batch_size}


def _patches(size: tuple[int, int, int], batch_size: int) -> dict[str, Any]:
    return {"data.patch_size": size, "data.batch_size": batch_size}


SLIM = {"model.widths": (16, 32, 64, 128, 256)}
STILL_SLIM_UNET = {"model.noise_std": 0.0, "model.border": 4}
# Enough decay to show in the losses whether it goes through Adam's moments.
DECAYED = {"optimizer.learning_rate": 1e-3, "optimizer.weight_decay": 1e-2}

CASES = {
    # To try it out.
    "quick": Case("covidqu:quick", _images(32, 4)),
    "quick_ct": Case("covid19_ct:quick", {"data.batch_size": 2}),
    # For CPUs.
    "covidqu_64_b8": Case("covidqu", _images(64, 8)),
    "covidqu_256_b2": Case("covidqu", _images(256, 2)),
    "covidqu_256_w16_b8": Case("covidqu", _images(256, 8) | SLIM),
    "covid19_ct_8x64x64_b2": Case("covid19_ct", _patches((8, 64, 64), 2)),
    "monai_basic_64_b8": Case("covidqu", _images(64, 8), "monai_basic_unet"),
    "monai_64_b8": Case("covidqu", _images(64, 8), "monai_unet"),
    # For accelerators.
    "covidqu_256_b16": Case("covidqu", _images(256, 16)),
    "covidqu_256_b64": Case("covidqu", _images(256, 64)),
    "covidqu_256_b256": Case("covidqu", _images(256, 256)),
    "cxr_lungs_512_b16": Case("cxr_lungs", _images(512, 16)),
    "v7_lungs_256_b32": Case("v7_lungs", _images(256, 32)),
    "covid19_ct_8x128x128_b5": Case("covid19_ct", _patches((8, 128, 128), 5)),
    "covid19_ct_128x128x128_b2": Case("covid19_ct", _patches((128, 128, 128), 2)),
    "nnunet_form_b2": Case("covid19_ct", _patches(suite_cases.CUBE, 2) | suite_cases.NNUNET_FORM),
    "monai_basic_256_b64": Case("covidqu", _images(256, 64), "monai_basic_unet"),
    "monai_256_b64": Case("covidqu", _images(256, 64), "monai_unet"),
    # For `--check`: every network at full width, small images, nothing random.
    "check_covidqu": Case("covidqu", _images(64, 4) | DECAYED),
    "check_cxr_lungs": Case("cxr_lungs", _images(64, 4) | STILL_SLIM_UNET | DECAYED),
    "check_v7_lungs": Case("v7_lungs", _images(64, 4) | {"model.dropout": 0.0} | DECAYED),
    "check_covid19_ct": Case("covid19_ct", _patches((8, 64, 64), 2) | DECAYED),
}

CPU_CASES = (
    "covidqu_64_b8",
    "covidqu_256_b2",
    "covidqu_256_w16_b8",
    "covid19_ct_8x64x64_b2",
    "monai_basic_64_b8",
)
GPU_CASES = (  # The most important come first, in case time runs out.
    "covidqu_256_b64",
    "nnunet_form_b2",
    "covidqu_256_b16",
    "covidqu_256_b256",
    "covid19_ct_8x128x128_b5",
    "cxr_lungs_512_b16",
    "v7_lungs_256_b32",
    "covid19_ct_128x128x128_b2",
    "monai_basic_256_b64",
)
CHECK_CASES = ("check_covidqu", "check_cxr_lungs", "check_v7_lungs", "check_covid19_ct")

# Both sides train without augmentation, which is not compared.
NO_AUGMENTATION_3D = {
    "flip_probability": (0.0, 0.0, 0.0),
    "rotation_degrees": 0.0,
    "shift_fraction": 0.0,
    "zoom_range": (1.0, 1.0),
    "brightness": 0.0,
    "contrast": 0.0,
    "noise_std": 0.0,
}


def find(name: str) -> Case:
    """Returns the case called `name`.

    Raises:
        ValueError: there is no such case; lists all.
    """
    if name not in CASES:
        raise ValueError(f"--cases: got {name!r}, want one of {', '.join(CASES)}.")
    return CASES[name]


def load_config(case: Case, *, dtype: str, source: str, num_threads: int) -> mlc.ConfigDict:
    """Returns the config that both sides are made from.

    Args:
        case: the network and its size.
        dtype: dtype of the computation, "float32" or "bfloat16".
        source: "memory": data are on the device; "loader": the host makes them.
        num_threads: number of threads that make data.
    """
    config = config_file.load(config_file.resolve(case.config))
    config.update_from_flattened_dict(dict(case.changes))
    config.model.dtype = dtype
    placement = {"memory": "device", "loader": "host"}[source]
    config.data.update(placement=placement, num_threads=num_threads)
    if "patch_size" in config.data:
        config.augment.update(NO_AUGMENTATION_3D)
    else:
        config.augment.update(defaults.image_augment())
    return config
