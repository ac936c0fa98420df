"""Nguyen Xuan Minh Vu (2024): U-Net on COVID-QU-Ex; background, lungs and infection in one map.

Data: COVID-QU-Ex version 7, "Infection Segmentation Data", split as published, at 256 x 256. The
paper's test scores: MSE 0.00873, MAE 0.02522, precision 0.8856, recall 0.8829, IoU 0.93337.

    python -m jaxlung.main --config=configs/covidqu.py            # the paper's run
    python -m jaxlung.main --config=configs/covidqu.py:phantom    # on generated X-rays, minutes
    python -m jaxlung.main --config=configs/covidqu.py:quick      # the whole job in a minute
"""

import ml_collections as mlc

from jaxlung.config import config_arg, defaults


def get_config(arg: str = "") -> mlc.ConfigDict:
    """Returns the run; `arg` is "", "phantom" or "quick"."""
    config_arg.refuse_folds(arg, "COVID-QU-Ex")
    variant = config_arg.parse_arg(arg, phantom=False, quick=False)
    # `defaults` has the fields that all configs share: seed, step, control, mesh, ...
    config = defaults.make_config()
    config.epochs = 100
    config.selection = "last"  # checkpoint to evaluate; or "best": the lowest validation loss

    config.model_name = "unet"  # a key of models.MODELS
    config.model = dict(
        widths=(64, 128, 256, 512, 1024),  # channels of each level
        num_classes=1,
        head_norm=True,  # BatchNorm after the last convolution, as in the paper
        pad_input=False,  # True: pad sizes that are not multiples of 16
        dtype="float32",  # of the computation; "bfloat16" is faster on accelerators
    )
    config.task_name = "three_level"  # a key of tasks.TASKS
    config.task = dict()
    config.optimizer = defaults.optimizer(learning_rate=1e-4, weight_decay=1e-8)

    # Every image is scaled to [0, 1] by its own darkest and brightest pixel (section 4.1).
    config.data = dict(
        name="covid_qu_ex/infection",
        data_dir="~/tensorflow_datasets",  # prepared data
        raw_dir="",  # the download: zip or folder; "" looks in data_dir/downloads/manual
        download=False,  # True: fetch it with kagglehub or kaggle
        phantom_images=0,  # above 0: generate so many X-rays instead of using the download
        image_size=256,  # pixels, height and width
        resize="squash",  # or "pad": keep the aspect ratio
        batch_size=16,  # images per step, over all devices
        eval_batch_size=8,
        placement="auto",  # "device", "host", or "auto": on the device if the data fit
        num_threads=4,  # threads that decode
    )
    config.augment = defaults.image_augment()  # The paper uses none.
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
