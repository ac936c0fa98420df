"""Nguyen Xuan Minh Vu (2024): U-Net on COVID-QU-Ex, outside, lung and infection in one map.

Data: COVID-QU-Ex version 7, "Infection Segmentation Data", split as published, at 256 x 256. The
paper's test scores: MSE 0.00873, MAE 0.02522, precision 0.8856, recall 0.8829, IoU 0.93337.

    python -m jaxlung.main --config=configs/covidqu.py            # the paper's run
    python -m jaxlung.main --config=configs/covidqu.py:phantom    # on generated X-rays, minutes
    python -m jaxlung.main --config=configs/covidqu.py:quick      # the whole job in a minute
"""

import ml_collections as mlc

from jaxlung.config import config_arg


def get_config(arg: str = "") -> mlc.ConfigDict:
    """The run; `arg` is "", "phantom" or "quick"."""
    variant = config_arg.parse_arg(arg, phantom=False, quick=False)
    config = mlc.ConfigDict()
    config.seed = 0
    config.epochs = 100
    config.selection = "last"  # or "best": the lowest validation loss
    config.log_every_steps = 50
    config.init_from = ""  # folder of a run whose network this one starts from
    config.freeze = ""  # regular expression: parameters of matching paths don't train

    config.model_name = "unet"  # a key of models.MODELS
    config.model = dict(
        widths=(64, 128, 256, 512, 1024),  # channels of each level
        num_classes=1,
        head_norm=True,  # the paper's BatchNorm after the last convolution
        pad_input=False,  # True: sizes that are no multiple of 16 are padded
        dtype="float32",  # of the computation; "bfloat16" on accelerators
    )
    config.task_name = "three_level"  # a key of tasks.TASKS
    config.task = dict()
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

    # Every image is scaled to [0, 1] by its own darkest and brightest pixel (section 4.1).
    config.data = dict(
        name="covid_qu_ex/infection",
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
    config.augment = dict(  # The paper uses none.
        flip_probability=0.0,  # left and right
        rotation_degrees=0.0,  # uniform in +-
        shift_fraction=0.0,  # of the image's size, uniform in +-
        shear_degrees=0.0,
        zoom_range=(1.0, 1.0),
        brightness=0.0,  # added, uniform in +-
        contrast=0.0,  # factor 1 +- this
    )
    config.mesh = dict(data=-1, space=1)  # devices that share a batch (-1: all), an image
    config.paper = dict(  # Table 1
        train=dict(mse=0.00288, mae=0.01394, precision=0.9378, recall=0.9361, iou=0.9731),
        validation=dict(mse=0.00830, mae=0.02438, precision=0.8872, recall=0.8863, iou=0.9363),
        test=dict(mse=0.00873, mae=0.02522, precision=0.8856, recall=0.8829, iou=0.93337),
        note="They are Table 1 of Nguyen Xuan Minh Vu (2024).",
    )
    config.lock()  # From here on a misspelt field is an error.

    if variant.phantom:  # Minutes on two CPU cores: smaller images, network and data.
        config.epochs = 14
        config.model.widths = (8, 16, 32, 64, 128)
        config.optimizer.learning_rate = 5e-3  # 560 steps in place of 23,300.
        config.data.update(phantom_images=500, image_size=112, batch_size=8)
    if variant.quick:  # The whole job in under a minute.
        config.epochs = 2
        config.log_every_steps = 2
        config.model.widths = (4, 8)
        config.data.update(phantom_images=40, image_size=32, batch_size=4, eval_batch_size=4)
    return config
