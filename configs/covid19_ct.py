"""Lin and Huang: 3D U-Net with FV, PASPP and deep supervision; infection on COVID-19 CT volumes.

Data: the 20 volumes of "COVID-19 CT Lung and Infection Segmentation Dataset" (Zenodo 3757476), or
Kaggle's copy: 14 for training, 2 for validation, 4 for testing, split by patient. The paper's test
Dice is 0.7627 for volumes multiplied by the lung mask.

    python -m jaxlung.main --config=configs/covid19_ct.py
    python -m jaxlung.main --config=configs/covid19_ct.py:attention=ce,paspp=false
    python -m jaxlung.main --config=configs/covid19_ct.py:region=full
    python -m jaxlung.main --config=configs/covid19_ct.py:target=lungs
    python -m jaxlung.main --config=configs/covid19_ct.py:fold=0,folds=5
    python -m jaxlung.main --config=configs/covid19_ct.py:phantom    # generated CTs, minutes
"""

import types

import ml_collections as mlc

from jaxlung.config import config_arg, defaults


def get_config(arg: str = "") -> mlc.ConfigDict:
    """Returns the run; `arg` is "" or some of the variants below, separated by commas."""
    variant = config_arg.parse_arg(
        arg,
        attention="se",  # in the FV blocks; or "ce"; or "none": a network without FV blocks
        paspp=True,
        deep_supervision=True,
        region="",  # "lung" or "full"; "" is "lung" for infection and "full" for lungs
        target="infection",  # or "lungs"
        fold=0,  # which of the folds to test on
        folds=0,  # 0: the single split of the paper
        phantom=False,
        quick=False,
    )
    if variant.target not in ("infection", "lungs"):
        raise ValueError(f"target: got {variant.target!r}, want one of infection, lungs.")
    target = {"infection": "infection", "lungs": "lung"}[variant.target]
    region = variant.region or {"infection": "lung", "lung": "full"}[target]
    # `defaults` has the fields that all configs share: seed, step, control, mesh, ...
    config = defaults.make_config()
    config.epochs = 200
    config.selection = "best_score"  # the highest validation Dice; or "best" loss, or "last"

    config.model_name = "fv_paspp_unet"  # a key of models.MODELS
    config.model = dict(
        widths=(32, 64, 128, 256),  # channels of each level
        strides=((1, 2, 2), (2, 2, 2), (2, 2, 2)),  # between levels: slices, rows, columns
        # "se": squeeze and excitation; "ce": contrast enhancement; "none": no FV blocks.
        attention=variant.attention,
        reduction=2,  # channels per hidden unit of SE and CE; the paper gives 2 for CE only
        paspp=variant.paspp,
        paspp_rates=((1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8)),  # for 2 x 16 x 16 voxels
        deep_supervision=variant.deep_supervision,
        num_classes=1,
        dtype="float32",  # of the computation; "bfloat16" is faster on accelerators
    )
    config.task_name = "volume_mask"  # a key of tasks.TASKS
    config.task = dict(
        target=target,
        region=region,  # "lung": the network sees the CT times the lung mask; "full": the whole CT
        threshold=0.5,  # foreground above it
        loss="bce_dice",  # a key of losses.LOSSES
        alpha=0.5,  # weight of the cross-entropy; the Dice loss has weight 1
    )
    config.optimizer = defaults.optimizer(learning_rate=1e-4, weight_decay=0.0)

    config.window_hu = (-1250.0, 250.0)  # scaled to [0, 1]; advised by the dataset's authors
    config.data = dict(
        name="covid19_ct_seg/native",
        data_dir="~/tensorflow_datasets",  # prepared data
        raw_dir="",  # the download: folder or zip; "" looks in data_dir/downloads/manual
        download=False,  # True: fetch it from Zenodo
        phantom_images=0,  # above 0: generate so many CTs instead of using the download
        num_validation=2,  # volumes
        num_test=4,  # volumes; unused with folds
        fold=variant.fold,
        folds=variant.folds,  # 0: no cross-validation
        patch_size=(8, 128, 128),  # slices, rows, columns
        patches_per_volume=50,  # per epoch
        foreground_fraction=0.5,  # share of the patches that are centred on the target
        foreground=target,
        crop_to_lungs=region == "lung",  # voxels outside the lungs' box are masked anyway
        spacing_mm=(0.0, 0.0, 0.0),  # resample to this spacing; 0: keep the scan's
        batch_size=5,  # patches per step, over all devices; the paper's, which used one device
        eval_batch_size=8,  # windows
        placement="auto",  # "device", "host", or "auto": on the device if the data fit
        num_threads=4,  # threads that decode
    )
    config.augment = dict(  # Our choice; the paper names none.
        flip_probability=(0.0, 0.5, 0.5),  # of slices, rows, columns; files differ in the last two
        rotation_degrees=10.0,  # in the plane of the slices, at most, either way
        shift_fraction=0.0,  # of the patch's size, at most, either way
        zoom_range=(0.9, 1.1),
        brightness=0.05,  # added to all pixels, at most, either way
        contrast=0.1,  # factor from 1 minus this to 1 plus this
        noise_std=0.01,  # as a share of the window
    )
    config.inference = dict(
        overlap=0.5,  # share of a window that overlaps the next one
        validation_overlap=0.0,  # the same, in validation during training
        mirror=False,  # True: average over mirror images
        keep_largest=2 if target == "lung" else 0,  # connected components; 0: all
        inside_lungs=region == "lung",  # no foreground outside the annotated lungs
    )
    config.paper = dict(
        train=dict(),
        validation=dict(),
        test=_paper_scores(variant, region) if target == "infection" else dict(),
        subjects=_paper_subjects(variant, region) if target == "infection" else (),
        note="They are from Tables 2, 3 and 5 of Lin and Huang.",
    )
    config.lock()  # From here on a misspelt field is an error.

    if variant.phantom:  # Minutes on two CPU cores: smaller CTs, patches and network.
        config.epochs = 8
        config.model.widths = (8, 16, 32, 64)
        config.model.paspp_rates = ((1, 1, 1), (1, 2, 2), (1, 3, 3), (1, 4, 4))  # of 2 x 6 x 6
        config.optimizer.learning_rate = 3e-3
        config.data.update(
            phantom_images=20, patch_size=(8, 48, 48), patches_per_volume=20, batch_size=8
        )
    if variant.quick:  # The whole job in under a minute.
        config.epochs = 2
        config.log_every_steps = 2
        config.model.widths = (4, 8, 8)
        config.model.strides = ((1, 2, 2), (2, 2, 2))
        config.model.paspp_rates = ((1, 1, 1), (1, 2, 2), (1, 3, 3), (1, 3, 3))  # of 2 x 4 x 4
        config.data.update(
            phantom_images=6,
            num_validation=1,
            num_test=2,
            patch_size=(4, 16, 16),
            patches_per_volume=4,
            batch_size=4,
            eval_batch_size=32,
        )
    return config


def _paper_scores(variant: types.SimpleNamespace, region: str) -> dict[str, float]:
    """Returns the paper's test scores for a variant; {} if it gives none."""
    rows = {  # attention, paspp, deep supervision, region
        ("none", False, False, "lung"): (0.7196, 0.5704, 0.6480, 0.8435),
        ("se", False, False, "lung"): (0.7229, 0.5731, 0.7009, 0.7727),
        ("ce", False, False, "lung"): (0.7203, 0.5722, 0.7002, 0.7578),
        ("se", True, False, "lung"): (0.7471, 0.6055, 0.7106, 0.7983),
        ("se", True, True, "lung"): (0.7627, 0.6237, 0.6938, 0.8563),
        ("se", True, True, "full"): (0.5074, 0.3955, 0.7328, 0.5247),
    }
    row = (variant.attention, variant.paspp, variant.deep_supervision, region)
    names = ("dice", "iou", "sensitivity", "precision")
    return dict(zip(names, rows[row], strict=True)) if row in rows else {}


def _paper_subjects(variant: types.SimpleNamespace, region: str) -> tuple[tuple, ...]:
    """Returns the paper's Table 4, its four test volumes; () except for its final network."""
    last = ("se", True, True, "lung")
    if (variant.attention, variant.paspp, variant.deep_supervision, region) != last:
        return ()
    return (  # name, shape with slices last, Dice, sensitivity, IoU
        ("A", (512, 512, 301), 0.8304, 0.7693, 0.7100),
        ("B", (512, 512, 256), 0.6566, 0.5722, 0.4888),
        ("C", (630, 401, 110), 0.7074, 0.5898, 0.5472),
        ("D", (630, 630, 93), 0.8564, 0.8436, 0.7488),
    )
