"""Records whose lungs were found by a network."""

import dataclasses

import numpy as np

from jaxlung.data import record
from jaxlung.data.transforms import resize


class WithLungs:
    """A source with other lungs.

    Args:
        source: the records.
        masks: [N, S, S] bool, the lungs of each.
        how: `resize` that brought the images to S x S, to be undone.
    """

    def __init__(self, source: record.Source, masks: np.ndarray, how: str) -> None:
        self._source, self._masks, self._how = source, masks, how

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> record.Record:
        item = self._source[index]
        shares = resize.unfit(self._masks[index].astype(np.float32), *item.image.shape, self._how)
        rest = item.mask & np.uint8(255 - record.LUNG)
        return dataclasses.replace(item, mask=rest | (shares > 0.5) * np.uint8(record.LUNG))

    def people(self) -> list[tuple[str, str]]:
        """(image_id, patient_id) of every record, without decoding images."""
        return self._source.people()
