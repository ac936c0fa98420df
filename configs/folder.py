"""Your own images and masks: one binary mask, lungs or infection, by a network of your choice.

A folder with `images/` and `masks/` (PNG or JPEG of any size, matched by stem), or a CSV file.
Patients are kept together; 80 % train, 10 % validation, 10 % test.

    python -m jaxlung.main --config=configs/folder.py --config.data.root=MY_IMAGES
    python -m jaxlung.main --config=configs/folder.py:target=infection --config.data.root=A,B
    python -m jaxlung.main --config=configs/folder.py:network=slim_unet --config.data.root=A
"""

import ml_collections as mlc

from jaxlung.config import config_arg


def get_config(arg: str = "") -> mlc.ConfigDict:
    """The run; `arg` is "" or some of "target=lung|infection", "network=...", and "quick"."""
    variant = config_arg.parse_arg(arg, target="lung", network="unet", quick=False)
    config = mlc.ConfigDict()
    config.seed = 0
    config.epochs = 30
    config.selection = "best"  # the lowest validation loss; or "last"
    config.log_every_steps = 50
    config.init_from = ""  # folder of a run whose network this one starts from
    config.freeze = ""  # regular expression: parameters of matching paths don't train

    config.model_name = variant.network  # a key of `networks`
    networks = dict(
        unet=dict(
            widths=(8, 16, 32, 64, 128),  # channels of each level: half a million parameters
            num_classes=1,
            head_norm=False,  # a bias after the last convolution
            pad_input=False,  # True: sizes that are no multiple of 16 are padded
            dtype="float32",  # of the computation; "bfloat16" on accelerators
        ),
        residual_unet=dict(
            widths=(8, 16, 32, 64, 128),
            num_classes=1,
            head_norm=False,
            pad_input=False,
            dtype="float32",
        ),
        slim_unet=dict(  # Bartels et al., 99,589 parameters, for images cut to the chest or not
            num_classes=1, noise_std=0.25, leaky_slope=0.2, border=0, dtype="float32"
        ),
        v7_unet=dict(
            widths=(8, 16, 32, 64, 128), num_classes=1, in_channels=1, dropout=0.5, dtype="float32"
        ),
    )
    if variant.network not in networks:
        raise ValueError(f"network: got {variant.network!r}, want one of {', '.join(networks)}.")
    config.model = networks[variant.network]
    config.task_name = "mask"  # a key of tasks.TASKS
    config.task = dict(
        target=variant.target,
        threshold=0.5,  # foreground above it
        loss="bce",  # or "iou", "bce_iou": a key of losses.LOSSES
        alpha=0.5,  # share of the cross-entropy in bce_iou
    )
    config.optimizer = dict(learning_rate=1e-3, weight_decay=1e-8, b1=0.9, b2=0.999, eps=1e-8)
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

    config.data = dict(
        name="folder",
        root="",  # folder with images/ and masks/; several with commas between
        csv="",  # or a CSV file that names images and masks
        csv_image_column="image",
        csv_mask_column="mask",
        csv_patient_column="",  # "": there is none
        csv_split_column="",  # train, validation or test; "": split here
        mask_suffix="",  # "_mask": the mask of a.png is a_mask.png
        foreground_levels=(),  # grey levels that count; (): the brighter half of a binary mask
        negative_roots="",  # those of root that show no lungs, or no infection: masks all empty
        patient_pattern="",  # regular expression whose first group in the stem is the patient
        validation_fraction=0.1,  # of the patients
        test_fraction=0.1,
        image_size=128,  # pixels, height and width
        resize="pad",  # keep the aspect ratio; or "squash"
        batch_size=16,  # images per step, over all devices
        eval_batch_size=16,
        placement="auto",  # "device", "host", or "auto": on the device if it fits
        num_threads=4,  # that decode
    )
    config.augment = dict(
        flip_probability=0.5,  # left and right
        rotation_degrees=5.0,  # uniform in +-
        shift_fraction=0.05,  # of the image's size, uniform in +-
        shear_degrees=2.0,
        zoom_range=(0.9, 1.1),
        brightness=0.1,  # added, uniform in +-
        contrast=0.1,  # factor 1 +- this
    )
    config.mesh = dict(data=-1, space=1)  # devices that share a batch (-1: all), an image
    config.paper = dict(train=dict(), validation=dict(), test=dict(), note="")
    config.lock()  # From here on a misspelt field is an error.

    if variant.quick:
        config.epochs = 2
        if "widths" in config.model:
            config.model.widths = (4, 8)
        config.data.update(image_size=32, batch_size=4, eval_batch_size=4)
    return config
