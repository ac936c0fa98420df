"""Fields of today's configs that older runs lack, with the values that those runs used."""

from typing import Any

import ml_collections as mlc

from jaxlung.config import defaults


def fill(config: mlc.ConfigDict) -> None:
    """Adds the fields that an older run's `config.json` lacks, so that any run opens.

    Args:
        config: the config as read, unlocked; changed in place.
    """
    if config.get("model_name") == "fv_paspp_unet":
        _add(config.model, "reduction", 2)
    if isinstance(crop := config.task.get("crop_pixels"), int):  # Once one number for all sides.
        del config.task.crop_pixels
        config.task.crop_pixels = (crop, crop, crop)
    if str(config.data.get("name", "")).startswith("v7_covid_cxr/"):
        _add(config.data, "max_train_per_class", 0)
        _add_no_folds(config)
    if str(config.data.get("name", "")).startswith("cxr_lungs/"):
        _add_no_folds(config)
    if config.data.get("name") == "folder":
        _add(config.data, "negative_roots", "")
        _add_no_folds(config)
    for name, value in defaults.optimizer().items():
        _add(config.optimizer, name, value)
    if "shear_degrees" in config.augment:  # Of images.
        for name in ("elastic_fraction", "gamma", "noise_std", "blur_pixels", "low_resolution"):
            _add(config.augment, name, 0.0)
    _add(config.paper, "note", "")
    _add(config, "calibrate", False)


def _add_no_folds(config: mlc.ConfigDict) -> None:
    _add(config.data, "fold", 0)
    _add(config.data, "folds", 0)


def _add(section: mlc.ConfigDict, name: str, value: Any) -> None:
    if name not in section:
        section[name] = value
