"""Zhang, section 5: COVID-19 or not, on V7's X-rays, from the whole image or only its lungs.

The paper's scores: accuracy 0.9620 (training) and 0.9666 (validation), AUC 0.985; with 20 pixels
cut off the left and the top, accuracy 0.9723 and 0.9666. The paper uses the whole image and leaves
the lungs alone to future work. Patients of both classes are held out.
This file changes fields of `v7_lungs.py` and keeps the rest.

    python -m jaxlung.main --config=configs/v7_diagnosis.py
    python -m jaxlung.main --config=configs/v7_diagnosis.py:crop=corner
    python -m jaxlung.main --config=configs/v7_diagnosis.py:fold=0,folds=5
    python -m jaxlung.main --config=configs/v7_lungs.py && \
        python -m jaxlung.main --config=configs/v7_diagnosis.py:lungs=predicted
    python -m jaxlung.main --config=configs/v7_diagnosis.py:lungs=true
    python -m jaxlung.main --config=configs/v7_diagnosis.py:phantom    # generated X-rays, minutes
"""

import types
from typing import Any

import ml_collections as mlc

from jaxlung.config import config_arg, config_file


def get_config(arg: str = "") -> mlc.ConfigDict:
    """Returns the run; `arg` is "" or some of the variants below, separated by commas."""
    variant = config_arg.parse_arg(
        arg,
        lungs="none",  # or "predicted", "true": the network sees only what is inside those lungs
        crop="edges",  # or "corner"
        fold=0,  # which of the folds to test on
        folds=0,  # 0: a single split
        phantom=False,
        quick=False,
    )
    crops = {  # pixels off top, left and right, of 256
        "edges": (10, 10, 10),  # section 5.2
        "corner": (20, 20, 0),  # section 5.4
    }
    if variant.crop not in crops:
        raise ValueError(f"crop: got {variant.crop!r}, want one of {', '.join(crops)}.")
    config = config_file.load_shipped("v7_lungs", phantom=variant.phantom, quick=variant.quick)
    # As in `v7_lungs.py`: Adam, the images and their size and scaling, no augmentation.
    config.epochs = 15  # at most, our choice; the paper's training stopped after 2
    # Keras's early stopping keeps the last weights; "best" would be those with the lowest
    # validation loss, an epoch earlier.
    config.selection = "last"
    config.control.stop_patience = 1  # epochs without improvement before training stops
    config.model_name = "diagnosis_cnn"
    config.task_name = "diagnosis"
    # Half of the held-out patients validate and half test. With "paper_both" all do both, as in the
    # paper, which has no other images to test on.
    config.data.protocol = "halves"
    config.data.update(fold=variant.fold, folds=variant.folds)
    config.data.eval_batch_size = 32
    config.unlock()  # This network and task have fields of their own.
    config.lungs_run = _lungs_run(variant)  # finds the lungs, for lungs=predicted only
    config.model = dict(
        filters=(32, 64),  # of the convolutions
        dense=64,  # units of the layer before the last
        in_channels=3,  # the grey X-ray, three times
        dtype="float32",  # of the computation; "bfloat16" is faster on accelerators
    )
    config.task = dict(
        lungs=variant.lungs,  # "none": it sees all; "predicted", "true": what is inside them
        crop_pixels=crops[variant.crop],  # off top, left and right
        # COVID-19 above it; 0: chosen on the validation split. The paper's accuracy is at 0.5.
        threshold=0.0,
    )
    config.paper = _paper(variant)
    config.lock()  # From here on a misspelt field is an error.

    if variant.phantom:  # Minutes on two CPU cores; the same seed and images as v7_lungs:phantom.
        config.model.update(filters=(8, 16), dense=32)
        config.task.crop_pixels = tuple(2 * pixels // 5 for pixels in crops[variant.crop])
        config.control.stop_patience = 4  # The loss of 220 validation images is noisy:
        config.selection = "best"  # its last value may be far from the lowest.
    if variant.quick:  # The whole job in under a minute.
        config.epochs = 2
        config.model.update(filters=(4, 4), dense=4)
        config.task.crop_pixels = tuple(pixels // 10 for pixels in crops[variant.crop])
        config.data.eval_batch_size = 8
    return config


def _lungs_run(variant: types.SimpleNamespace) -> str:
    """Returns the default folder of the run of `v7_lungs` with the same images and splits."""
    fold = f"fold={variant.fold},folds={variant.folds}" if variant.folds else ""
    size = "quick" if variant.quick else "phantom" if variant.phantom else ""
    return config_file.default_workdir(f"v7_lungs:{fold},{size}")


def _paper(variant: types.SimpleNamespace) -> dict[str, Any]:
    """Returns the paper's scores for a variant; it has none for the lungs alone."""
    scores = {  # of training and validation
        "edges": (dict(accuracy_at_half=0.9620), dict(accuracy_at_half=0.9666, auc=0.985)),
        "corner": (dict(accuracy_at_half=0.9723), dict(accuracy_at_half=0.9666)),
    }
    train, validation = scores[variant.crop] if variant.lungs == "none" else (dict(), dict())
    return dict(
        train=train,
        validation=validation,
        test=dict(),
        note="They are from sections 5.3 and 5.4 of Zhang, after the last epoch. Accuracy is "
        "Keras's, at threshold 0.5.",
    )
