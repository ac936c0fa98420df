"""Bartels et al. (2022): slim U-Net (99,589 parameters), lungs on Montgomery and Shenzhen X-rays.

The paper's scores: test mean IoU 0.95308775; accuracy 97 to 98 % of training and validation, and
95 % in its abstract, which names no split.

    python -m jaxlung.main --config=configs/cxr_lungs.py
    python -m jaxlung.main --config=configs/cxr_lungs.py:phantom    # generated X-rays, minutes
    python -m jaxlung.main --config=configs/cxr_lungs.py --config.init_from=runs/other \
        --config.freeze="encoder/.*"                                # fine-tune the decoder
"""

import ml_collections as mlc

from jaxlung.config import config_arg


def get_config(arg: str = "") -> mlc.ConfigDict:
    """The run; `arg` is "", "phantom" or "quick"."""
    variant = config_arg.parse_arg(arg, phantom=False, quick=False)
    config = mlc.ConfigDict()
    config.seed = 0
    config.epochs = 25
    config.selection = "best"  # the lowest validation loss, our choice; or "last"
    config.log_every_steps = 50
    config.init_from = ""  # folder of a run whose network this one starts from
    config.freeze = ""  # regular expression: parameters of matching paths don't train

    config.model_name = "slim_unet"  # a key of models.MODELS
    config.model = dict(
        num_classes=1,
        noise_std=0.25,  # of the Gaussian noise on training images
        leaky_slope=0.2,
        border=48,  # pixels at the edge that are never lung
        dtype="float32",  # of the computation; "bfloat16" on accelerators
    )
    config.task_name = "mask"  # a key of tasks.TASKS
    config.task = dict(
        target="lung",
        threshold=0.5,  # foreground above it
        loss="bce",  # or "iou", "bce_iou": a key of losses.LOSSES
        alpha=0.5,  # share of the cross-entropy in bce_iou
    )
    config.optimizer = dict(learning_rate=2e-4, weight_decay=0.0, b1=0.9, b2=0.999, eps=1e-7)
    config.step = dict(
        steps_per_dispatch=0,  # without the host between; 0: 10 on accelerators, 1 on CPUs
        microbatches=1,  # parts of a batch that are computed one after the other: less memory
        remat=False,  # True: compute activations again for the gradient: less memory
    )
    config.control = dict(  # by the validation loss, once an epoch
        plateau_patience=3,  # epochs without improvement before the rate falls; 0: never
        plateau_factor=0.5,
        plateau_min_delta=1e-4,
        plateau_cooldown=2,  # epochs
        min_learning_rate=1e-6,
        stop_patience=15,  # epochs without improvement before training stops; 0: never
        stop_min_delta=0.0,
    )

    # Every image is scaled to [0, 1] by its own darkest and brightest pixel: our choice. The paper
    # says nothing of it.
    config.data = dict(
        name="cxr_lungs/512",  # stored with 512, 1024 or native pixels on the longest side
        data_dir="~/tensorflow_datasets",  # prepared data
        raw_dir_montgomery="",  # the download: zip or folder; "" looks in data_dir/downloads/manual
        raw_dir_shenzhen="",  # X-rays and masks, zips or folders, in one folder
        download=False,  # True: fetch both; Shenzhen's masks with kagglehub or kaggle
        phantom_images=0,  # more than 0: generate that many X-rays of each in their place
        validation_fraction=0.1,  # of the patients
        test_fraction=0.2,
        image_size=512,  # pixels, height and width
        resize="squash",  # or "pad": keep the aspect ratio
        batch_size=16,  # images per step, over all devices
        eval_batch_size=8,
        placement="auto",  # "device", "host", or "auto": on the device if it fits
        num_threads=4,  # that decode
    )
    config.augment = dict(
        flip_probability=0.5,  # left and right
        rotation_degrees=5.0,  # uniform in +-
        shift_fraction=0.05,  # of the image's size, uniform in +-
        shear_degrees=1.0,  # the paper gives no amount
        zoom_range=(0.8, 1.2),
        brightness=0.0,  # added, uniform in +-
        contrast=0.0,  # factor 1 +- this
    )
    config.mesh = dict(data=-1, space=1)  # devices that share a batch (-1: all), an image
    config.paper = dict(
        train=dict(accuracy=(0.97, 0.98)),  # a range, as in the paper
        validation=dict(accuracy=(0.97, 0.98)),
        test=dict(mean_iou=0.95308775, accuracy=0.95),
        note="They are from section 3 of Bartels et al. (2022), which has no test accuracy: 0.95 "
        "is from its abstract, which names no split.",
    )
    config.lock()  # From here on a misspelt field is an error.

    if variant.phantom:  # Minutes on two CPU cores: smaller and fewer images, larger steps.
        config.model.border = 4
        config.optimizer.learning_rate = 5e-3
        config.data.update(phantom_images=120, image_size=128, batch_size=4)
    if variant.quick:  # The whole job in under a minute.
        config.epochs = 2
        config.log_every_steps = 2
        config.model.border = 1
        config.data.update(phantom_images=16, image_size=32, batch_size=4, eval_batch_size=4)
    return config
