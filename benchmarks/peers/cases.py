"""What is measured: a config of jaxlung, some fields of it changed, and a network of PyTorch's."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections as mlc

from benchmarks.peers import data
from jaxlung.config import config_file


@dataclasses.dataclass(frozen=True)
class Case:
    """One network at one size.

    Attributes:
        config: name of a shipped config.
        changes: dotted field -> value.
        network: of PyTorch's side; "" for the same network, else as `torch_networks.make_network`.
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
# As much decay as makes a difference: whether it goes through Adam's moments shows in the losses.
DECAYED = {"optimizer.learning_rate": 1e-3, "optimizer.weight_decay": 1e-2}

CASES = {
    # A laptop's.
    "000_64_b8": Case("covidqu", _images(64, 8)),
    "000_256_b2": Case("covidqu", _images(256, 2)),
    "000_256_w16_b8": Case("covidqu", _images(256, 8) | SLIM),
    "004_8x64x64_b2": Case("covid19_ct", _patches((8, 64, 64), 2)),
    "monai_basic_64_b8": Case("covidqu", _images(64, 8), "monai_basic_unet"),
    "monai_64_b8": Case("covidqu", _images(64, 8), "monai_unet"),
    # An accelerator's.
    "000_256_b16": Case("covidqu", _images(256, 16)),
    "000_256_b64": Case("covidqu", _images(256, 64)),
    "000_256_b256": Case("covidqu", _images(256, 256)),
    "002_512_b16": Case("cxr_lungs", _images(512, 16)),
    "003_256_b32": Case("v7_lungs", _images(256, 32)),
    "004_8x128x128_b5": Case("covid19_ct", _patches((8, 128, 128), 5)),
    "004_128x128x128_b2": Case("covid19_ct", _patches((128, 128, 128), 2)),
    "monai_basic_256_b64": Case("covidqu", _images(256, 64), "monai_basic_unet"),
    "monai_256_b64": Case("covidqu", _images(256, 64), "monai_unet"),
    # For `--check`: every network of its full width, small images, nothing random.
    "check_000": Case("covidqu", _images(64, 4) | DECAYED),
    "check_002": Case("cxr_lungs", _images(64, 4) | STILL_SLIM_UNET | DECAYED),
    "check_003": Case("v7_lungs", _images(64, 4) | {"model.dropout": 0.0} | DECAYED),
    "check_004": Case("covid19_ct", _patches((8, 64, 64), 2) | DECAYED),
}

CPU_CASES = (
    "000_64_b8",
    "000_256_b2",
    "000_256_w16_b8",
    "004_8x64x64_b2",
    "monai_basic_64_b8",
)
GPU_CASES = (
    "000_256_b16",
    "000_256_b64",
    "000_256_b256",
    "002_512_b16",
    "003_256_b32",
    "004_8x128x128_b5",
    "004_128x128x128_b2",
    "monai_basic_256_b64",
)
CHECK_CASES = ("check_000", "check_002", "check_003", "check_004")

# Both sides train on images as they are: augmentation is no part of the comparison.
NO_AUGMENTATION = {
    "rotation_degrees": 0.0,
    "shift_fraction": 0.0,
    "shear_degrees": 0.0,
    "zoom_range": (1.0, 1.0),
    "brightness": 0.0,
    "contrast": 0.0,
    "noise_std": 0.0,
}


def find(name: str) -> Case:
    """The case called `name`.

    Raises:
        ValueError: there is none; lists them.
    """
    if name not in CASES:
        raise ValueError(f"--cases: got {name!r}, want one of {', '.join(CASES)}.")
    return CASES[name]


def load_config(case: Case, *, dtype: str, source: str, num_threads: int) -> mlc.ConfigDict:
    """The config that jaxlung trains with, and whose sections PyTorch's side is made from.

    Args:
        case: the network and its size.
        dtype: of the computation, "float32" or "bfloat16".
        source: "memory" for data that lies on the device, "loader" for data that the host makes.
        num_threads: that make it.
    """
    config = config_file.load(config_file.resolve(case.config))
    config.update_from_flattened_dict(dict(case.changes))
    config.model.dtype = dtype
    placement = {"memory": "device", "loader": "host"}[source]
    config.data.update(placement=placement, num_threads=num_threads)
    for name in config.augment:
        if name == "flip_probability":
            config.augment[name] = (0.0, 0.0, 0.0) if "patch_size" in config.data else 0.0
        else:
            config.augment[name] = NO_AUGMENTATION[name]
    if "patch_size" in config.data:
        # Patches from anywhere in whole volumes: PyTorch's side need know no lungs' box.
        config.data.update(crop_to_lungs=False, foreground_fraction=0.0)
        config.data.patches_per_volume = data.PATCHES_PER_VOLUME
    return config
