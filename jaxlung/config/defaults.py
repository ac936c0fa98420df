"""The fields that configs share: how a run computes, its optimizer, and the changes to images.

A config file starts with `config = defaults.make_config()` and sets those that it wants otherwise:
`config.control.stop_patience = 15`.
"""

from typing import Any

import ml_collections as mlc


def make_config() -> mlc.ConfigDict:
    """Returns a config with the shared fields only, still open for more."""
    config = mlc.ConfigDict()
    config.seed = 0
    config.log_every_steps = 50
    config.init_from = ""  # run, exported file or shipped network that this one starts from
    config.freeze = ""  # regular expression: parameters with a matching path don't train
    config.calibrate = False  # True: fit the temperature of probabilities to the validation split
    config.step = dict(
        steps_per_dispatch=0,  # steps that the device takes at once; 0: 10 on accelerators, else 1
        microbatches=1,  # parts of a batch, computed one after the other: more need less memory
        remat=False,  # True: compute activations again for the gradient, which needs less memory
    )
    config.control = dict(  # by the validation loss, once an epoch
        plateau_patience=0,  # epochs without improvement before the learning rate falls; 0: never
        plateau_factor=0.5,  # new learning rate over the old one
        plateau_min_delta=1e-4,  # a smaller change of the loss is no improvement
        plateau_cooldown=0,  # epochs after a fall in which the patience doesn't run
        min_learning_rate=1e-6,
        stop_patience=0,  # epochs without improvement before training stops; 0: never
        stop_min_delta=0.0,  # a smaller change of the loss is no improvement
    )
    config.mesh = dict(  # devices
        data=-1,  # that share a batch; -1: all
        space=1,  # that share one image or patch, each some of its rows
    )
    return config


def optimizer(**changes: Any) -> dict[str, Any]:
    """Returns the section `optimizer` of a config: PyTorch's Adam at a constant rate but `changes`.

    See `jaxlung.training.optimizer.Settings`.
    """
    adam = dict(
        name="adam",  # with L2 weight decay; or "adamw", "sgd"
        learning_rate=1e-3,  # the largest of the schedule
        weight_decay=0.0,
        b1=0.9,  # of Adam
        b2=0.999,  # of Adam
        eps=1e-8,  # of Adam
        momentum=0.9,  # of SGD, Nesterov's
        clip_norm=0.0,  # largest norm of the gradient; 0: any
        schedule="constant",  # or "cosine", "polynomial", "one_cycle", over the whole run
        warmup_fraction=0.0,  # share of the run in which the rate rises
        end_fraction=0.0,  # last rate over the largest; of "cosine" and "polynomial"
        power=0.9,  # of "polynomial"
        average_decay=0.0,  # 0.99: score and export the average of about 100 steps; 0: don't
    )
    return _change("optimizer", adam, changes)


def image_augment(**amounts: Any) -> dict[str, Any]:
    """Returns the section `augment` of a config for images: no changes but `amounts`."""
    off = dict(
        flip_probability=0.0,  # of mirroring left and right
        rotation_degrees=0.0,  # at most, either way
        shift_fraction=0.0,  # of the image's size, at most, either way
        shear_degrees=0.0,  # at most, either way
        zoom_range=(1.0, 1.0),  # smallest and largest scale
        elastic_fraction=0.0,  # of the image's size: a smooth warp moves no pixel further
        brightness=0.0,  # added to all pixels, at most, either way
        contrast=0.0,  # factor from 1 minus this to 1 plus this
        gamma=0.0,  # power from 1 / (1 + this) to 1 + this
        noise_std=0.0,  # at most, where images are in [0, 1]
        blur_pixels=0.0,  # standard deviation of a Gaussian, at most
        low_resolution=0.0,  # share of the resolution that is lost, at most
    )
    return _change("augment", off, amounts)


def _change(section: str, fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    unknown = changes.keys() - fields.keys()
    if unknown:
        wanted = ", ".join(fields)
        raise ValueError(f"{section}: got {', '.join(sorted(unknown))}, want some of {wanted}.")
    return fields | changes
