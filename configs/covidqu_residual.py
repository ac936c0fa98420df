"""Nguyen Xuan Tung (2024): U-Net with residual encoder, infection on COVID-QU-Ex, two losses.

Data: the 2,913 COVID-19 images of COVID-QU-Ex's "Infection Segmentation Data", split as published.
The paper compares binary cross-entropy with its sum with an IoU loss (test IoU 0.138 both).

    python -m jaxlung.main --config=configs/covidqu_residual.py
    python -m jaxlung.main --config=configs/covidqu_residual.py:loss=bce_iou
    python -m jaxlung.main --config=configs/covidqu_residual.py:loss=bce_iou,phantom
"""

import ml_collections as mlc

from jaxlung.config import config_arg


def get_config(arg: str = "") -> mlc.ConfigDict:
    """The run; `arg` is "loss=bce|iou|bce_iou", "phantom", "quick", or two of them."""
    variant = config_arg.parse_arg(arg, loss="bce", phantom=False, quick=False)
    config = mlc.ConfigDict()
    config.seed = 0
    config.epochs = 100
    config.selection = "best"  # the lowest validation loss, our choice; or "last"
    config.log_every_steps = 50
    config.init_from = ""  # folder of a run whose network this one starts from
    config.freeze = ""  # regular expression: parameters of matching paths don't train

    config.model_name = "residual_unet"  # a key of models.MODELS
    config.model = dict(
        widths=(64, 128, 256, 512, 1024),  # channels of each level
        num_classes=1,
        head_norm=True,  # BatchNorm after the last convolution, as Nguyen Xuan Minh Vu's
        pad_input=False,  # True: sizes that are no multiple of 16 are padded
        dtype="float32",  # of the computation; "bfloat16" on accelerators
    )
    config.task_name = "mask"  # a key of tasks.TASKS
    config.task = dict(
        target="infection",
        threshold=0.5,  # foreground above it
        loss=variant.loss,  # a key of losses.LOSSES
        alpha=0.5,  # share of the cross-entropy in bce_iou; the paper gives none
    )
    config.optimizer = dict(learning_rate=1e-4, weight_decay=1e-8, b1=0.9, b2=0.999, eps=1e-8)
    config.step = dict(
        steps_per_dispatch=0,  # without the host between; 0: 10 on accelerators, 1 on CPUs
        microbatches=1,  # parts of a batch that are computed one after the other: less memory
        remat=False,  # True: compute activations again for the gradient: less memory
    )
    config.control = dict(  # by the validation loss, once an epoch
        plateau_patience=0,  # epochs without improvement before the rate falls; 0: never
        plateau_factor=0.5,
        plateau_min_delta=1e-4,
        plateau_cooldown=0,  # epochs
        min_learning_rate=1e-6,
        stop_patience=0,  # epochs without improvement before training stops; 0: never
        stop_min_delta=0.0,
    )

    # Every image is scaled to [0, 1] by its own darkest and brightest pixel: our choice. The paper
    # normalises to [0, 1] too, and doesn't say by what range (section 2).
    config.data = dict(
        name="covid_qu_ex_covid_only/infection",
        data_dir="~/tensorflow_datasets",  # prepared data
        raw_dir="",  # the download: zip or folder; "" looks in data_dir/downloads/manual
        download=False,  # True: fetch it with kagglehub or kaggle
        phantom_images=0,  # more than 0: generate that many X-rays in place of the download
        image_size=256,  # pixels, height and width
        resize="squash",  # or "pad": keep the aspect ratio
        batch_size=16,  # images per step, over all devices
        eval_batch_size=8,
        placement="auto",  # "device", "host", or "auto": on the device if it fits
        num_threads=4,  # that decode
    )
    config.augment = dict(  # The paper names none.
        flip_probability=0.0,  # left and right
        rotation_degrees=0.0,  # uniform in +-
        shift_fraction=0.0,  # of the image's size, uniform in +-
        shear_degrees=0.0,
        zoom_range=(1.0, 1.0),
        brightness=0.0,  # added, uniform in +-
        contrast=0.0,  # factor 1 +- this
    )
    config.mesh = dict(data=-1, space=1)  # devices that share a batch (-1: all), an image
    config.paper = dict(
        train=dict(),
        validation=dict(),
        test=dict(iou=0.138) if variant.loss in ("bce", "bce_iou") else dict(),
        note="It is Table 2 of Nguyen Xuan Tung (2024), which has the same IoU for both losses. "
        "Its MAE, 16.321 and 102168.546, is left out: outputs in [0, 1] can't be so far off.",
    )
    config.lock()  # From here on a misspelt field is an error.

    if variant.phantom:  # Minutes on two CPU cores: smaller images, network and data.
        config.epochs = 14
        config.model.widths = (8, 16, 32, 64, 128)
        config.optimizer.learning_rate = 5e-3  # 280 steps in place of 11,650.
        config.data.update(phantom_images=500, image_size=112, batch_size=8)
    if variant.quick:  # The whole job in under a minute.
        config.epochs = 2
        config.log_every_steps = 2
        config.model.widths = (4, 8)
        config.data.update(phantom_images=40, image_size=32, batch_size=4, eval_batch_size=4)
    return config
