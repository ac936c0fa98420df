"""Zhang, section 4: a U-Net for lungs on V7's COVID-19 X-rays, 256 x 256.

The paper's scores: training accuracy 0.9697, validation accuracy 0.9575, IoU 0.8666, Dice 0.9273.
With no more than 500 X-rays without COVID-19 to train on: accuracy 0.9538 and 0.9114.

    python -m jaxlung.main --config=configs/v7_lungs.py
    python -m jaxlung.main --config=configs/v7_lungs.py:per_class=500
    python -m jaxlung.main --config=configs/v7_lungs.py:phantom    # generated X-rays, minutes
"""

import ml_collections as mlc

from jaxlung.config import config_arg


def get_config(arg: str = "") -> mlc.ConfigDict:
    """The run; `arg` is "" or some of "per_class=N", "phantom" and "quick", with commas between."""
    variant = config_arg.parse_arg(arg, per_class=0, phantom=False, quick=False)
    config = mlc.ConfigDict()
    config.seed = 0
    config.epochs = 15
    config.selection = "last"  # as Keras without a callback; or "best": the lowest validation loss
    config.log_every_steps = 50
    config.init_from = ""  # folder of a run whose network this one starts from
    config.freeze = ""  # regular expression: parameters of matching paths don't train

    config.model_name = "v7_unet"  # a key of models.MODELS
    config.model = dict(
        widths=(64, 128, 256, 512, 1024),  # channels of each level
        num_classes=1,
        in_channels=3,  # the grey X-ray, three times
        dropout=0.5,  # after the two deepest levels
        dtype="float32",  # of the computation; "bfloat16" on accelerators
    )
    config.task_name = "mask"  # a key of tasks.TASKS
    config.task = dict(
        target="lung",
        threshold=0.2,  # foreground above it; the paper's, but for its accuracy
        loss="bce",  # or "iou", "bce_iou": a key of losses.LOSSES
        alpha=0.5,  # share of the cross-entropy in bce_iou
    )
    # The paper names Adam only: Keras's default rate and epsilon.
    config.optimizer = dict(learning_rate=1e-3, weight_decay=0.0, b1=0.9, b2=0.999, eps=1e-7)
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
    # says nothing of it.
    config.data = dict(
        name="v7_covid_cxr/256",  # stored with 256, 512, 1024 or native pixels, longest side
        data_dir="~/tensorflow_datasets",  # prepared data
        raw_dir="",  # the download: folder or zip; "" looks in data_dir/downloads/manual
        download=False,  # True: fetch the annotations; the images need an account
        phantom_images=0,  # more than 0: generate that many X-rays in place of the download
        held_out_fraction=0.3,  # of the patients of either class
        # Validation: held-out COVID-19; test: all held-out. "paper_both": both are all held-out;
        # "halves": one half each.
        protocol="paper",
        max_train_per_class=variant.per_class,  # images with and without COVID-19; 0: all
        image_size=256,  # pixels, height and width
        resize="squash",  # or "pad": keep the aspect ratio
        batch_size=32,  # images per step, over all devices
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
    scores = {  # most images of a class -> the paper's, of training and validation
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
        # The two units before the last layer decide: with seed 0 both begin with weights above 0,
        # and the bias, which alone can then say "no lung", has only 400 steps to fall.
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
