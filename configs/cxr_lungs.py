"""Bartels et al. (2022): slim U-Net (99,589 parameters); lungs on Montgomery and Shenzhen X-rays.

The paper's scores: test mean IoU 0.95308775; accuracy 97 to 98 % in training and validation, and
95 % in the abstract, which names no split.

    python -m jaxlung.main --config=configs/cxr_lungs.py
    python -m jaxlung.main --config=configs/cxr_lungs.py:fold=0,folds=5
    python -m jaxlung.main --config=configs/cxr_lungs.py:phantom    # generated X-rays, minutes
    python -m jaxlung.main --config=configs/cxr_lungs.py --config.init_from=runs/other \
        --config.freeze="encoder/.*"                                # fine-tune the decoder
"""

import ml_collections as mlc

from jaxlung.config import config_arg, defaults


def get_config(arg: str = "") -> mlc.ConfigDict:
    """Returns the run; `arg` is "" or some of "fold=I,folds=N", "phantom", "quick" with commas."""
    variant = config_arg.parse_arg(arg, fold=0, folds=0, phantom=False, quick=False)
    # `defaults` has the fields that all configs share: seed, step, control, mesh, ...
    config = defaults.make_config()
    config.epochs = 25
    config.selection = "best"  # the lowest validation loss, our choice; or "last"

    config.model_name = "slim_unet"  # a key of models.MODELS
    config.model = dict(
        num_classes=1,
        noise_std=0.25,  # Gaussian noise on training images
        leaky_slope=0.2,
        border=48,  # outermost pixels, which are never lung
        dtype="float32",  # of the computation; "bfloat16" is faster on accelerators
    )
    config.task_name = "mask"  # a key of tasks.TASKS
    config.task = dict(
        target="lung",
        threshold=0.5,  # foreground above it
        loss="bce",  # or "iou", "bce_iou"; a key of losses.LOSSES
        alpha=0.5,  # share of the cross-entropy in "bce_iou"
    )
    config.optimizer = defaults.optimizer(learning_rate=2e-4, weight_decay=0.0, eps=1e-7)
    config.control.update(plateau_patience=3, plateau_cooldown=2, stop_patience=15)  # epochs

    # Every image is scaled to [0, 1] by its own darkest and brightest pixel. This is our choice;
    # the paper says nothing about it.
    config.data = dict(
        name="cxr_lungs/512",  # stored with 512, 1024 or native pixels on the longest side
        data_dir="~/tensorflow_datasets",  # prepared data
        raw_dir_montgomery="",  # the download: zip or folder; "" looks in data_dir/downloads/manual
        raw_dir_shenzhen="",  # folder with X-rays and masks, each a zip or a folder
        download=False,  # True: fetch both; Shenzhen's masks with kagglehub or kaggle
        phantom_images=0,  # above 0: generate so many X-rays of each instead of the downloads
        validation_fraction=0.1,  # share of the patients
        test_fraction=0.2,  # share of the patients; unused with folds
        fold=variant.fold,  # which of the folds is tested
        folds=variant.folds,  # of a cross-validation by patient; 0: a single split
        image_size=512,  # pixels, height and width
        resize="squash",  # or "pad": keep the aspect ratio
        batch_size=16,  # images per step, over all devices
        eval_batch_size=8,
        placement="auto",  # "device", "host", or "auto": on the device if the data fit
        num_threads=4,  # threads that decode
    )
    config.augment = defaults.image_augment(
        flip_probability=0.5,  # of mirroring left and right
        rotation_degrees=5.0,  # at most, either way
        shift_fraction=0.05,  # of the image's size, at most, either way
        shear_degrees=1.0,  # the paper gives no amount
        zoom_range=(0.8, 1.2),
    )
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
