"""The settings that turn records into examples and batches, shared by both feeds."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from jaxlung.data import record
from jaxlung.data.transforms import resize

PLACEMENTS = ("auto", "device", "host")


@dataclasses.dataclass(frozen=True)
class ImageSettings:
    """Settings of images: fields of a config's `data` section.

    Attributes:
        image_size: rows and columns of a network's input, pixels.
        resize: "squash", or "pad" to keep the aspect ratio.
        batch_size: images per training step, over all devices.
        eval_batch_size: images per evaluation step, over all devices.
        placement: "device" keeps whole splits on the device, "host" streams, "auto" chooses.
        num_threads: number of threads that decode images.
    """

    image_size: int
    resize: str
    batch_size: int
    eval_batch_size: int
    placement: str
    num_threads: int

    def __post_init__(self) -> None:
        _require_counts(self, "image_size", "batch_size", "eval_batch_size", "num_threads")
        _require_choice("placement", self.placement, PLACEMENTS)
        _require_choice("resize", self.resize, resize.RESIZES)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Rows and columns of a network's input."""
        return self.image_size, self.image_size

    def num_examples(self, num_records: int) -> int:
        """Returns the number of examples in an epoch: every image once."""
        return num_records


@dataclasses.dataclass(frozen=True)
class PatchSettings:
    """Settings of patches cut from volumes: fields of a config's `data` section.

    Attributes:
        patch_size: slices, rows and columns of a network's input, voxels.
        patches_per_volume: number of patches of each volume in an epoch.
        foreground_fraction: share of the patches that are centred on a voxel of `foreground`,
            [0, 1].
        foreground: a key of `record.BITS`.
        crop_to_lungs: cut volumes to the box around the lungs, where there are any.
        spacing_mm: spacing along D, H, W that volumes are resampled to, mm; 0 keeps an axis.
        batch_size: patches per training step, over all devices.
        eval_batch_size: windows per evaluation step, over all devices.
        placement: "device" keeps volumes on the device, "host" keeps them in the host's memory
            and sends patches, "auto" chooses.
        num_threads: number of threads that decode volumes.
        seed: seed of the run; a patch is a function of it and of the patch's position in the run.
    """

    patch_size: tuple[int, int, int]
    patches_per_volume: int
    foreground_fraction: float
    foreground: str
    crop_to_lungs: bool
    spacing_mm: tuple[float, float, float]
    batch_size: int
    eval_batch_size: int
    placement: str
    num_threads: int
    seed: int

    def __post_init__(self) -> None:
        _require_counts(self, "patches_per_volume", "batch_size", "eval_batch_size", "num_threads")
        _require_choice("placement", self.placement, PLACEMENTS)
        _require_choice("foreground", self.foreground, record.BITS)
        if not _are_three(self.patch_size, int) or min(self.patch_size) < 1:
            raise ValueError(
                f"data.patch_size: got {self.patch_size}, want slices, rows and columns, each 1 or "
                "more."
            )
        if not _are_three(self.spacing_mm, int, float) or not (
            all(0 <= spacing < math.inf for spacing in self.spacing_mm)
        ):
            raise ValueError(
                f"data.spacing_mm: got {self.spacing_mm}, want three numbers, each above 0, or 0 "
                "to keep an axis."
            )
        if not 0 <= self.foreground_fraction <= 1:
            raise ValueError(
                f"data.foreground_fraction: got {self.foreground_fraction}, want a number from 0 "
                "to 1."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Slices, rows and columns of a network's input."""
        return tuple(self.patch_size)

    def num_examples(self, num_records: int) -> int:
        """Returns the number of examples in an epoch: the same number of patches of each volume."""
        return num_records * self.patches_per_volume


Settings = ImageSettings | PatchSettings


@dataclasses.dataclass(frozen=True)
class InferenceSettings:
    """Settings of predicting whole volumes: a config's `inference` section.

    Attributes:
        overlap: share of a window that the next one covers again, [0, 1).
        validation_overlap: `overlap` for validation during training, which should be quick.
        mirror: True averages over all mirror images of every window, in the plane of slices.
        keep_largest: number of connected parts of the foreground to keep; 0 keeps all.
        inside_lungs: True removes foreground outside the annotated lungs.
    """

    overlap: float
    validation_overlap: float
    mirror: bool
    keep_largest: int
    inside_lungs: bool

    def __post_init__(self) -> None:
        for name in ("overlap", "validation_overlap"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"inference.{name}: got {getattr(self, name)}, want a number from 0 to below 1."
                )
        if self.keep_largest < 0:
            raise ValueError(
                f"inference.keep_largest: got {self.keep_largest}, want 0 (all) or more."
            )


def split_section(section: dict[str, Any], seed: int) -> tuple[dict[str, Any], Settings]:
    """Splits a config's `data` section into the dataset's own fields and the settings.

    Args:
        section: the section; "patch_size" in it means volumes, otherwise images.
        seed: seed of the run.

    Raises:
        ValueError: a field is out of range; names it.
    """
    kind = PatchSettings if "patch_size" in section else ImageSettings
    names = [field.name for field in dataclasses.fields(kind) if field.name != "seed"]
    own = {name: section[name] for name in names}
    if kind is PatchSettings:
        own["seed"] = seed
    return {name: value for name, value in section.items() if name not in names}, kind(**own)


def _are_three(values: Sequence[Any], *kinds: type) -> bool:
    return len(values) == 3 and all(type(value) in kinds for value in values)


def _require_counts(settings: Settings, *names: str) -> None:
    for name in names:
        if getattr(settings, name) < 1:
            raise ValueError(f"data.{name}: got {getattr(settings, name)}, want 1 or more.")


def _require_choice(name: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise ValueError(f"data.{name}: got {value!r}, want one of {', '.join(choices)}.")
