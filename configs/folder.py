"""Your own images and masks: a network of your choice learns one binary mask, lungs or infection.

Data: a folder with `images/` and `masks/` (PNG or JPEG, any size, matched by stem), or a CSV file.
80 % are for training, 10 % for validation and 10 % for testing; no patient is in two splits.

    python -m jaxlung.main --config=configs/folder.py --config.data.root=MY_IMAGES
    python -m jaxlung.main --config=configs/folder.py:target=infection --config.data.root=A,B
    python -m jaxlung.main --config=configs/folder.py:network=slim_unet --config.data.root=A
    python -m jaxlung.main --config=configs/folder.py:folds=5 --config.data.root=A  # 5 runs
"""

import ml_collections as mlc

from jaxlung.config import config_arg, defaults


def get_config(arg: str = "") -> mlc.ConfigDict:
    """Returns the run; `arg` is "" or some of "target=lung|infection", "network=...", ..."""
    variant = config_arg.parse_arg(arg, target="lung", network="unet", fold=0, folds=0, quick=False)
    # `defaults` has the fields that all configs share: seed, step, control, mesh, ...
    config = defaults.make_config()
    config.epochs = 30
    config.selection = "best"  # the lowest validation loss; or "best_score", or "last"
    config.calibrate = False  # True: calibrated probabilities, same masks; possible after training

    config.model_name = variant.network  # a key of `networks`
    networks = dict(
        unet=dict(
            widths=(8, 16, 32, 64, 128),  # channels of each level: half a million parameters
            num_classes=1,
            head_norm=False,  # a bias after the last convolution
            pad_input=False,  # True: pad sizes that are not multiples of 16
            dtype="float32",  # of the computation; "bfloat16" is faster on accelerators
        ),
        residual_unet=dict(
            widths=(8, 16, 32, 64, 128),
            num_classes=1,
            head_norm=False,
            pad_input=False,
            dtype="float32",
        ),
        slim_unet=dict(  # Bartels et al., 99,589 parameters; without their blank border
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
        loss="bce_dice",  # a key of losses.LOSSES: bce, focal, iou, dice, tversky, bce_iou
        alpha=1.0,  # weight: of BCE in "bce_...", foreground in focal, false positives in tversky
    )
    # Chosen by cross-validation on open X-rays: docs/results.md has what was tried.
    config.optimizer = defaults.optimizer(
        name="adamw",
        # Of three networks; at 4e-3 v7_unet, which has no BatchNorm, soon finds nothing.
        learning_rate=1e-3 if variant.network == "v7_unet" else 4e-3,
        weight_decay=0.01,
        schedule="cosine",
        warmup_fraction=0.05,
        average_decay=0.98,
    )

    config.data = dict(
        name="folder",
        root="",  # folder with images/ and masks/; separate several with commas
        csv="",  # or a CSV file that names images and masks
        csv_image_column="image",
        csv_mask_column="mask",
        csv_patient_column="",  # "": no column names the patient
        csv_split_column="",  # column with train, validation or test; "": jaxlung splits
        mask_suffix="",  # "_mask": the mask of a.png is a_mask.png
        foreground_levels=(),  # grey levels of the foreground; (): the brighter of two
        negative_roots="",  # folders of `root` without lungs or infection: empty masks
        patient_pattern="",  # regular expression; its first group in the stem is the patient
        validation_fraction=0.1,  # share of the patients
        test_fraction=0.1,  # share of the patients; unused with folds
        fold=variant.fold,  # which of the folds is tested
        folds=variant.folds,  # of a cross-validation by patient; 0: a single split
        image_size=128,  # pixels, height and width
        resize="pad",  # keep the aspect ratio; or "squash"
        batch_size=8,  # images per step, over all devices
        eval_batch_size=16,
        placement="auto",  # "device", "host", or "auto": on the device if the data fit
        num_threads=4,  # threads that decode
    )
    config.augment = defaults.image_augment(
        flip_probability=0.5,  # of mirroring left and right
        rotation_degrees=5.0,  # at most, either way
        shift_fraction=0.05,  # of the image's size, at most, either way
        shear_degrees=2.0,
        zoom_range=(0.9, 1.1),
        brightness=0.1,  # added to all pixels, at most, either way
        contrast=0.1,  # factor from 1 minus this to 1 plus this
    )
    config.paper = dict(train=dict(), validation=dict(), test=dict(), note="")
    config.lock()  # From here on a misspelt field is an error.

    if variant.quick:
        config.epochs = 2
        if "widths" in config.model:
            config.model.widths = (4, 8)
        config.data.update(image_size=32, batch_size=4, eval_batch_size=4)
    return config
