"""Nguyen Xuan Tung (2024): U-Net with residual encoder; infection on COVID-QU-Ex; two losses.

Data: the 2,913 COVID-19 images of COVID-QU-Ex's "Infection Segmentation Data", split as published.
The paper compares binary cross-entropy with its sum with an IoU loss: test IoU 0.138 for both.
This file changes fields of `covidqu.py` (Nguyen Xuan Minh Vu) and keeps the rest.

    python -m jaxlung.main --config=configs/covidqu_residual.py
    python -m jaxlung.main --config=configs/covidqu_residual.py:loss=bce_iou
    python -m jaxlung.main --config=configs/covidqu_residual.py:loss=bce_iou,phantom
"""

import ml_collections as mlc

from jaxlung.config import config_arg, config_file


def get_config(arg: str = "") -> mlc.ConfigDict:
    """Returns the run; `arg` is "loss=bce|iou|bce_iou", "phantom", "quick", or two of them."""
    config_arg.refuse_folds(arg, "COVID-QU-Ex")
    variant = config_arg.parse_arg(arg, loss="bce", phantom=False, quick=False)
    config = config_file.load_shipped("covidqu", phantom=variant.phantom, quick=variant.quick)
    # As in `covidqu.py`: 100 epochs of 256 x 256 images, which this paper has too. Also from there,
    # because the paper doesn't give them: Adam, the batch size, channels and head of the network,
    # and the scaling of each image by its own darkest and brightest pixel (section 2: "to [0, 1]").
    config.selection = "best"  # the lowest validation loss, our choice; or "last"
    config.model_name = "residual_unet"
    config.data.name = "covid_qu_ex_covid_only/infection"
    config.task_name = "mask"
    config.unlock()  # This task has fields of its own.
    config.task = dict(
        target="infection",
        threshold=0.5,  # foreground above it
        loss=variant.loss,  # a key of losses.LOSSES
        alpha=0.5,  # share of the cross-entropy in "bce_iou"; the paper gives none
    )
    config.paper = dict(
        train=dict(),
        validation=dict(),
        test=dict(iou=0.138) if variant.loss in ("bce", "bce_iou") else dict(),
        note="It is Table 2 of Nguyen Xuan Tung (2024), which has the same IoU for both losses. "
        "Its MAE, 16.321 and 102168.546, is left out: outputs in [0, 1] can't be so far off.",
    )
    config.lock()  # From here on a misspelt field is an error.
    return config
