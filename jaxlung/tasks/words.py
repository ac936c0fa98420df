"""The words for a task on reports and model cards, by the task's name. This module needs no JAX."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Words:
    """The words in which reports describe a task, its data and its scores.

    Attributes:
        description: What the network does, for the model card; "{found}" stands for the levels
            above the background.
        headlines: Keys of the main scores, the most important first.
        logged: Keys of the scores that are logged after an evaluation.
        modality: "X-ray" or "CT".
        record: One example of the dataset, "image" or "volume".
        example: One training example, "image" or "patch".
        unit: What its scores count, "pixel", "voxel" or "image".
        output_note: A remark on the raw output, shown above the scores; "" for none.
        paper_note: A remark on comparing with published scores; "" for none.
        bias_note: A bias that such a network may have, for the model card; "" for none.
    """

    description: str = ""
    headlines: tuple[str, ...] = ()
    logged: tuple[str, ...] = ()
    modality: str = "X-ray"
    record: str = "image"
    example: str = "image"
    unit: str = "pixel"
    output_note: str = ""
    paper_note: str = ""
    bias_note: str = ""

    @property
    def is_volumetric(self) -> bool:
        """Returns whether the task works on CT volumes."""
        return self.record == "volume"

    @property
    def counts_images(self) -> bool:
        """Returns whether scores count whole images instead of their pixels or voxels."""
        return self.unit == "image"


_OVERLAPS = ("accuracy", "sensitivity", "specificity")
WORDS = {
    "diagnosis": Words(
        description="Detects {found} on chest X-rays: it gives a probability for the whole image,"
        " and a positive result above a threshold.",
        headlines=("auc", "sensitivity", "specificity", "accuracy"),
        logged=("mse", "mae", "auc", *_OVERLAPS),
        unit="image",
        bias_note="If images with and without the disease come from different sources, a network"
        " can learn to tell the sources apart instead of the disease. These scores cannot show"
        " which of the two it learned.",
    ),
    "mask": Words(
        description="Segments {found} on chest X-rays: it gives a probability for every pixel, and"
        " a mask of the pixels above a threshold.",
        headlines=("dice", "iou", "mean_iou", "hd95"),
        logged=("mse", "mae", "dice", "iou", "mean_iou", "dice_stored", "hd95", *_OVERLAPS),
        paper_note="Where the paper doesn't say how it averages scores, its numbers are shown next"
        " to our means over images.",
    ),
    "three_level": Words(
        description="Segments {found} on chest X-rays: it gives a grey level for every pixel, which"
        " is then assigned to the class with the nearest grey level.",
        headlines=("f1_macro", "iou_macro", "f1_infection", "mae"),
        logged=("mse", "mae", "f1_macro", "iou_macro", "iou_micro"),
        output_note="Levels are scored after post-processing; the raw output is scored before it."
        " The raw output is a grey level, not a probability, so this page shows no calibration.",
    ),
    "volume_mask": Words(
        description="Segments {found} in chest CTs: it gives a probability for every voxel, and a"
        " mask of the voxels above a threshold.",
        headlines=("dice", "nsd", "hd95", "volume_error_ml"),
        logged=("mse", "mae", "dice", "iou", "mean_iou", "hd95", *_OVERLAPS),
        modality="CT",
        record="volume",
        example="patch",
        unit="voxel",
        paper_note="They are means over its four test volumes, which the paper does not name.",
    ),
}


def find(task: str) -> Words:
    """Returns the words of a task; plain words for X-rays if the name is unknown or empty."""
    return WORDS.get(task, Words())
