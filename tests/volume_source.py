"""CT volumes in memory for tests: noisy air with a box of lung, and infection in part of it."""

import numpy as np

from jaxlung.data import record


class VolumeSource:
    """Generated volumes of the given shapes, HU; record i is `case_<i>` of `patient_<i>`."""

    def __init__(self, shapes, spacing_mm=(2.0, 1.0, 1.0), seed=0):
        self._records = [_make(i, shape, spacing_mm, seed) for i, shape in enumerate(shapes)]

    def __len__(self):
        return len(self._records)

    def __getitem__(self, index):
        return self._records[index]

    def people(self):
        return [(item.image_id, item.patient_id) for item in self._records]


def _make(index, shape, spacing_mm, seed):
    np_rng = np.random.default_rng((seed, index))
    mask = np.zeros(shape, np.uint8)
    inner = tuple(slice(size // 4, size - size // 4) for size in shape)
    mask[inner] = record.LUNG
    ill = tuple(slice(size // 3, size // 2 + 1) for size in shape)
    mask[ill] |= record.INFECTION
    hu = np_rng.normal(-850, 40, shape) + 600 * (mask & record.INFECTION > 0) + 30 * index
    affine = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1.0])
    return record.VolumeRecord(
        image=hu.astype(np.int16),
        mask=mask,
        spacing_mm=spacing_mm,
        shape=shape[::-1],
        affine=affine,
        image_id=f"case_{index}",
        patient_id=f"patient_{index}",
        group="phantom",
    )
