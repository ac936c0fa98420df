"""The input of a benchmark: the config's data if they are prepared, else noise of that shape."""

from collections.abc import Iterable

import ml_collections as mlc
import numpy as np

from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.data.sources import datasets
from jaxlung.parallel import distributed
from jaxlung.training import system as system_lib

NUM_IMAGES = 256
NUM_VOLUMES = 2
VOLUME_SHAPE = (64, 256, 256)  # slices, rows, columns; larger where a patch is


class InMemory(record.Source[record.Item]):
    """Records that were read or generated before, so that access takes no time.

    Args:
        records: all records of the split.
    """

    def __init__(self, records: Iterable[record.Item]) -> None:
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> record.Item:
        return self._records[index]

    def people(self) -> list[tuple[str, str]]:
        """Returns (image_id, patient_id) of every record."""
        return [(item.image_id, item.patient_id) for item in self._records]


def open_source(
    config: mlc.ConfigDict, settings: settings_lib.Settings
) -> tuple[record.Source, str]:
    """Opens the training split if it is prepared; otherwise generates noise.

    Args:
        config: the run; nothing is prepared or downloaded for it.
        settings: the config's data settings.

    Returns:
        The records, and a description of them for the table.
    """
    if distributed.tell_all(datasets.is_prepared(config.data)):
        config = config.copy_and_resolve_references()
        if "download" in config.data:
            config.data.download = False
        return system_lib.open_splits(config)["train"], f"{config.data.name}, training split"
    kind = "volumes" if isinstance(settings, settings_lib.PatchSettings) else "images"
    source = generate(settings)
    return source, f"{len(source)} generated {kind} in memory, nothing to decode"


def generate(settings: settings_lib.Settings) -> record.Source:
    """Returns records of noise that have the size of the network's input, or a little more."""
    if isinstance(settings, settings_lib.PatchSettings):
        return InMemory(_make_volume(index, settings) for index in range(NUM_VOLUMES))
    return InMemory(_make_image(index, settings) for index in range(NUM_IMAGES))


def _make_image(index: int, settings: settings_lib.ImageSettings) -> record.Record:
    np_rng = np.random.default_rng(index)
    image = np_rng.integers(0, 256, settings.input_shape, np.uint8)
    return record.Record(
        image, _ill_lungs(image.shape), *_who(index), group="noise", label=index % 2
    )


def _make_volume(index: int, settings: settings_lib.PatchSettings) -> record.VolumeRecord:
    np_rng = np.random.default_rng(index)
    depth, height, width = np.maximum(VOLUME_SHAPE, settings.patch_size).tolist()
    shape = (depth, height, width)
    across, down, along = (spacing or 1.0 for spacing in settings.spacing_mm)
    image_id, patient_id = _who(index)
    return record.VolumeRecord(
        image=np_rng.integers(-1000, 400, shape, np.int16),
        mask=_ill_lungs(shape),
        spacing_mm=(across, down, along),
        shape=(width, height, depth),
        affine=np.eye(4),
        image_id=image_id,
        patient_id=patient_id,
        group="noise",
    )


def _ill_lungs(shape: tuple[int, ...]) -> np.ndarray:
    """Returns a mask of lungs everywhere, so that nothing is cropped, with infection inside."""
    mask = np.full(shape, record.LUNG, np.uint8)
    mask[tuple(slice(size // 4, size - size // 4) for size in shape)] |= record.INFECTION
    return mask


def _who(index: int) -> tuple[str, str]:
    return f"noise_{index}", f"nobody_{index}"
