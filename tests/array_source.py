"""A dataset in memory for tests: bright discs (lungs) with brighter spots (infection) on noise."""

import numpy as np

from jaxlung.data import record


class ArraySource:
    """`num_images` generated records of `size` x `size` pixels."""

    def __init__(self, num_images: int, size: int = 32, seed: int = 0) -> None:
        self._records = [_make_record(i, size, seed) for i in range(num_images)]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> record.Record:
        return self._records[index]

    def people(self) -> list[tuple[str, str]]:
        return [(item.image_id, item.patient_id) for item in self._records]


def _make_record(index: int, size: int, seed: int) -> record.Record:
    np_rng = np.random.default_rng((seed, index))
    row, column = np.mgrid[:size, :size] / size
    center = np_rng.uniform(0.35, 0.65, 2)
    distance = np.hypot(row - center[0], column - center[1])
    lung = distance < np_rng.uniform(0.2, 0.3)
    infection = (distance < 0.1) & (index % 2 == 0)
    noise = np_rng.normal(0, 12, (size, size))
    image = np.clip(60 + 80 * lung + 80 * infection + noise, 0, 255).astype(np.uint8)
    mask = lung * np.uint8(record.LUNG) + infection * np.uint8(record.INFECTION)
    group = "COVID-19" if index % 2 == 0 else "Normal"
    who = (f"image_{index}", f"patient_{index // 2}")
    return record.Record(image, mask, *who, group, label=int(index % 2 == 0))
