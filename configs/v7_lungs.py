"""Zhang, section 4: U-Net; lungs on V7's COVID-19 X-rays at 256 x 256.

The paper's scores: training accuracy 0.9697, validation accuracy 0.9575, IoU 0.8666, Dice 0.9273.
When trained on only 500 X-rays without COVID-19: accuracy 0.9538 (training), 0.9114 (validation).

    python -m jaxlung.main --config=configs/v7_lungs.py
    python -m jaxlung.main --config=configs/v7_lungs.py:per_class=500
    python -m jaxlung.main --config=configs/v7_lungs.py:fold=0,folds=5
    python -m jaxlung.main --config=configs/v7_lungs.py:phantom    # generated X-rays, minutes
"""

import ml_collections as mlc

from jaxlung.config import config_arg, defaults


def get_config(arg: str = "") -> mlc.ConfigDict:
    """Returns the run; `arg` is "" or some of the variants below, separated by commas."""
    variant = config_arg.parse_arg(
        arg,
        per_class=0,  # most images with, and without, COVID-19 to train on; 0: all
        fold=0,  # which of the folds to test on
        folds=0,  # 0: the paper's single split
        phantom=False,
        quick=False,
    )
    # `defaults` has the fields that all configs share: seed, step, control, mesh, ...
    config = defaults.make_config()
    config.epochs = 15
    config.selection = "last"  # Keras's default; or "best": the lowest validation loss

    config.model_name = "v7_unet"  # a key of models.MODELS
    config.model = dict(
        widths=(64, 128, 256, 512, 1024),  # channels of each level
        num_classes=1,
        in_channels=3,  # the grey X-ray, three times
        dropout=0.5,  # after the two deepest levels
        dtype="float32",  # of the computation; "bfloat16" is faster on accelerators
    )
    config.task_name = "mask"  # a key of tasks.TASKS
    config.task = dict(
        target="lung",
        threshold=0.2,  # foreground above it; the paper's accuracy is at 0.5
        loss="bce",  # or "iou", "bce_iou"; a key of losses.LOSSES
        alpha=0.5,  # share of the cross-entropy in "bce_iou"
    )
    # The paper only names Adam; learning rate and epsilon are Keras's defaults.
    config.optimizer = defaults.optimizer(learning_rate=1e-3, weight_decay=0.0, eps=1e-7)

    # Every image is scaled to [0, 1] by its own darkest and brightest pixel. This is our choice;
    # the paper says nothing about it.
    config.data = dict(
        name="v7_covid_cxr/256",  # stored with 256, 512, 1024 or native pixels, longest side
        data_dir="~/tensorflow_datasets",  # prepared data
        raw_dir="",  # the download: folder or zip; "" looks in data_dir/downloads/manual
        download=False,  # True: fetch the annotations; the images need an account
        phantom_images=0,  # above 0: generate so many X-rays instead of using the download
        held_out_fraction=0.3,  # share of the patients with COVID-19, and of those without
        # Held-out patients with COVID-19 are the validation split, all held-out the test split.
        # "paper_both": all are in both splits; "halves": one half in each. Folds have splits of
        # their own, with the share of "halves" to validate on.
        protocol="halves" if variant.folds else "paper",
        fold=variant.fold,
        folds=variant.folds,  # of a cross-validation by patient; 0: a single split
        max_train_per_class=variant.per_class,  # most images with, and without, COVID-19; 0: all
        image_size=256,  # pixels, height and width
        resize="squash",  # or "pad": keep the aspect ratio
        batch_size=32,  # images per step, over all devices
        eval_batch_size=8,
        placement="auto",  # "device", "host", or "auto": on the device if the data fit
        num_threads=4,  # threads that decode
    )
    config.augment = defaults.image_augment()  # The paper uses none.
    scores = {  # per_class -> the paper's training and validation scores
        0: (dict(accuracy_at_half=0.9697), dict(accuracy_at_half=0.9575, iou=0.8666, dice=0.9273)),
        500: (dict(accuracy_at_half=0.9538), dict(accuracy_at_half=0.9114)),
    }
    train, validation = scores.get(variant.per_class, (dict(), dict()))
    config.paper = dict(
        train=train,
        validation=validation,
        test=dict(),
        note="They are from sections 4.3 and 4.4 of Zhang, after the last epoch. Accuracy is "
        "Keras's, at threshold 0.5; IoU and Dice are at 0.2, as ours.",
    )
    config.lock()  # From here on a misspelt field is an error.

    if variant.phantom:  # Minutes on two CPU cores: smaller and fewer images, smaller network.
        # Two units feed the last layer. With seed 0 both start with positive weights, so that only
        # the bias can say "no lung", and 400 steps are too few for it to fall.
        config.seed = 1
        config.epochs = 3
        config.model.widths = (8, 16, 32, 64, 128)
        config.data.update(phantom_images=1500, image_size=96, batch_size=8)
    if variant.quick:  # The whole job in under a minute.
        config.epochs = 2
        config.log_every_steps = 2
        config.model.widths = (4, 4, 8)
        config.data.max_train_per_class = min(variant.per_class, 20)
        config.data.update(phantom_images=60, image_size=32, batch_size=8, eval_batch_size=8)
    return config
