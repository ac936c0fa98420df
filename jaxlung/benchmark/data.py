"""What a benchmark reads: the config's data if they are prepared, else noise of the same shape."""

import ml_collections as mlc
import numpy as np

from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.data.sources import datasets
from jaxlung.parallel import distributed
from jaxlung.training import system as system_lib

NUM_IMAGES = 256
NUM_VOLUMES = 2
VOLUME_SHAPE = (64, 256, 256)  # at least; a patch may be larger


class Generated:
    """Records in memory, of noise, read without decoding.

    Args:
        settings: of the network's input, at whose size the records are.
    """

    def __init__(self, settings: settings_lib.Settings) -> None:
        if isinstance(settings, settings_lib.PatchSettings):
            self._records = [_make_volume(i, settings) for i in range(NUM_VOLUMES)]
        else:
            self._records = [_make_image(i, settings) for i in range(NUM_IMAGES)]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> record.Record | record.VolumeRecord:
        return self._records[index]

    def people(self) -> list[tuple[str, str]]:
        """(image_id, patient_id) of every record."""
        return [(item.image_id, item.patient_id) for item in self._records]


def open_source(
    config: mlc.ConfigDict, settings: settings_lib.Settings
) -> tuple[record.Source, str]:
    """Training records, and what they are; prepares and downloads nothing."""
    if distributed.tell_all(datasets.is_prepared(config.data)):
        config = config.copy_and_resolve_references()
        if "download" in config.data:
            config.data.download = False
        return system_lib.open_splits(config)["train"], f"{config.data.name}, training split"
    kind = "volumes" if isinstance(settings, settings_lib.PatchSettings) else "images"
    source = Generated(settings)
    return source, f"{len(source)} generated {kind} in memory, nothing to decode"


def _make_image(index: int, settings: settings_lib.ImageSettings) -> record.Record:
    np_rng = np.random.default_rng(index)
    image = np_rng.integers(0, 256, settings.input_shape, np.uint8)
    return record.Record(
        image, _ill_lungs(image.shape), *_who(index), group="noise", label=index % 2
    )


def _make_volume(index: int, settings: settings_lib.PatchSettings) -> record.VolumeRecord:
    np_rng = np.random.default_rng(index)
    shape = tuple(np.maximum(VOLUME_SHAPE, settings.patch_size).tolist())
    image_id, patient_id = _who(index)
    return record.VolumeRecord(
        image=np_rng.integers(-1000, 400, shape, np.int16),
        mask=_ill_lungs(shape),
        spacing_mm=tuple(spacing or 1.0 for spacing in settings.spacing_mm),
        shape=shape[::-1],
        affine=np.eye(4),
        image_id=image_id,
        patient_id=patient_id,
        group="noise",
    )


def _ill_lungs(shape: tuple[int, ...]) -> np.ndarray:
    """Lungs everywhere, so that nothing is cut off, and infection in the middle."""
    mask = np.full(shape, record.LUNG, np.uint8)
    mask[tuple(slice(size // 4, size - size // 4) for size in shape)] |= record.INFECTION
    return mask


def _who(index: int) -> tuple[str, str]:
    return f"noise_{index}", f"nobody_{index}"
