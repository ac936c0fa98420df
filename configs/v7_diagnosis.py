"""Zhang, section 5: COVID-19 or not on V7's X-rays, from the whole image or its lungs.

The paper's scores: accuracy 0.9620 (training), 0.9666 (validation), AUC 0.985; with 20 pixels cut
off the left and the top, accuracy 0.9723 and 0.9666. The paper sees the whole image; what the lungs
alone tell is its future work. Both classes are held out, by patient.

    python -m jaxlung.main --config=configs/v7_diagnosis.py
    python -m jaxlung.main --config=configs/v7_diagnosis.py:crop=corner
    python -m jaxlung.main --config=configs/v7_lungs.py && \
        python -m jaxlung.main --config=configs/v7_diagnosis.py:lungs=predicted
    python -m jaxlung.main --config=configs/v7_diagnosis.py:lungs=true
    python -m jaxlung.main --config=configs/v7_diagnosis.py:phantom    # generated X-rays, minutes
"""

import ml_collections as mlc

from jaxlung.config import config_arg


def get_config(arg: str = "") -> mlc.ConfigDict:
    """The run; `arg` is "" or some of the variants below, with commas between."""
    variant = config_arg.parse_arg(
        arg,
        lungs="none",  # or "predicted" or "true": only what is inside them is seen
        crop="edges",  # or "corner"
        phantom=False,
        quick=False,
    )
    crops = {  # pixels off top, left and right, of 256
        "edges": (10, 10, 10),  # section 5.2
        "corner": (20, 20, 0),  # section 5.4
    }
    if variant.crop not in crops:
        raise ValueError(f"crop: got {variant.crop!r}, want one of {', '.join(crops)}.")
    config = mlc.ConfigDict()
    config.seed = 0
    config.epochs = 15  # at most, our choice; the paper's training stopped after 2
    # As Keras's early stopping, which goes on with the last weights; "best": the lowest validation
    # loss, which is of an epoch before.
    config.selection = "last"
    config.log_every_steps = 50
    config.init_from = ""  # folder of a run whose network this one starts from
    config.freeze = ""  # regular expression: parameters of matching paths don't train

    # Folder of the run that finds the lungs; only for lungs=predicted.
    config.lungs_run = "runs/v7_lungs"

    config.model_name = "diagnosis_cnn"  # a key of models.MODELS
    config.model = dict(
        filters=(32, 64),  # of the convolutions
        dense=64,  # units of the layer before the last
        in_channels=3,  # the grey X-ray, three times
        dtype="float32",  # of the computation; "bfloat16" on accelerators
    )
    config.task_name = "diagnosis"  # a key of tasks.TASKS
    config.task = dict(
        lungs=variant.lungs,  # "none": it sees all; else inside "predicted" or "true" lungs
        crop_pixels=crops[variant.crop],  # off top, left and right
        # COVID-19 above it; 0: chosen on the validation split. The paper's accuracy is at 0.5.
        threshold=0.0,
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
        stop_patience=1,  # epochs without improvement before training stops; 0: never
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
        # Of the held-out patients half validate, half test; or "paper_both": all do both, as the
        # paper, which has no other images to test on.
        protocol="halves",
        max_train_per_class=0,  # images with and without COVID-19; 0: all
        image_size=256,  # pixels, height and width
        resize="squash",  # or "pad": keep the aspect ratio
        batch_size=32,  # images per step, over all devices
        eval_batch_size=32,
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
    scores = {  # the paper's, of training and validation
        "edges": (dict(accuracy_at_half=0.9620), dict(accuracy_at_half=0.9666, auc=0.985)),
        "corner": (dict(accuracy_at_half=0.9723), dict(accuracy_at_half=0.9666)),
    }
    sees_all = variant.lungs == "none"  # The paper has no numbers of the lungs alone.
    train, validation = scores[variant.crop] if sees_all else (dict(), dict())
    config.paper = dict(
        train=train,
        validation=validation,
        test=dict(),
        note="They are from sections 5.3 and 5.4 of Zhang, after the last epoch. Accuracy is "
        "Keras's, at threshold 0.5.",
    )
    config.lock()  # From here on a misspelt field is an error.

    if variant.phantom:  # Minutes on two CPU cores: smaller and fewer images, smaller network.
        config.seed = 1  # The same split as that of the lungs.
        config.lungs_run = "runs/v7_lungs_phantom"
        config.model.update(filters=(8, 16), dense=32)
        config.task.crop_pixels = tuple(2 * pixels // 5 for pixels in crops[variant.crop])
        config.control.stop_patience = 4  # Losses of 220 validation images jump about:
        config.selection = "best"  # the last of them may be far from it.
        config.data.update(phantom_images=1500, image_size=96, batch_size=8)
    if variant.quick:  # The whole job in under a minute.
        config.epochs = 2
        config.log_every_steps = 2
        config.lungs_run = "runs/v7_lungs_quick"
        config.model.update(filters=(4, 4), dense=4)
        config.task.crop_pixels = tuple(pixels // 10 for pixels in crops[variant.crop])
        config.data.update(phantom_images=60, image_size=32, batch_size=8, eval_batch_size=8)
    return config
