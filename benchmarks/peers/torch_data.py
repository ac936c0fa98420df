"""The input of PyTorch's side: tensors on the device, or a DataLoader."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils import data

from benchmarks.peers import data as made_up

Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def make_batches(settings: dict[str, Any], source: str, device: torch.device) -> Batches:
    """Yields batches on the device without end: images and masks as stored, [B, ...].

    Args:
        settings: a config's `data` section.
        source: "memory": tensors on the device; "loader": a DataLoader.
        device: device for the batches.
    """
    batch_size = settings["batch_size"]
    if "patch_size" in settings:
        where = device if source == "memory" else torch.device("cpu")
        dataset = PatchDataset(tuple(settings["patch_size"]), where)
        in_memory = _cut
    else:
        dataset = PictureDataset(batch_size, settings["image_size"])
        in_memory = _gather
    if source == "memory":
        return in_memory(dataset, batch_size, device)
    return _load(dataset, batch_size, device, settings["num_threads"])


class PictureDataset(data.Dataset):
    """`peers.data.Pictures` as tensors."""

    def __init__(self, batch_size: int, size: int) -> None:
        self._pictures = made_up.Pictures(batch_size, size)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = self._pictures[index]
        return torch.from_numpy(image.copy()), torch.from_numpy(mask.copy())


class PatchDataset(data.Dataset):
    """Patches from anywhere in volumes; the index determines the place."""

    def __init__(self, size: tuple[int, int, int], where: torch.device) -> None:
        self._size = size
        self._volumes = [
            (torch.from_numpy(image).to(where), torch.from_numpy(mask).to(where))
            for image, mask in made_up.make_volumes(size)
        ]

    def __len__(self) -> int:
        return made_up.PATCHES_PER_VOLUME * len(self._volumes)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = self._volumes[index % len(self._volumes)]
        room = np.subtract(image.shape, self._size)
        corner = np.random.default_rng(index).integers(0, room + 1)
        box = tuple(
            slice(start, start + size) for start, size in zip(corner, self._size, strict=True)
        )
        return image[box], mask[box]


def _gather(dataset: PictureDataset, batch_size: int, device: torch.device) -> Batches:
    """Yields shuffled rows of two tensors on the device."""
    images, masks = (
        torch.stack(x).to(device)
        for x in zip(*(dataset[i] for i in range(len(dataset))), strict=True)
    )
    for rows in _shuffled(len(dataset), batch_size):
        index = torch.from_numpy(rows).to(device, non_blocking=True)
        yield images[index], masks[index]


def _cut(dataset: PatchDataset, batch_size: int, device: torch.device) -> Batches:
    """Yields patches of volumes that are on the device."""
    del device
    for rows in _shuffled(len(dataset), batch_size):
        images, masks = zip(*(dataset[int(i)] for i in rows), strict=True)
        yield torch.stack(images), torch.stack(masks)


def _shuffled(count: int, batch_size: int) -> Iterator[np.ndarray]:
    """Yields rows of batches without end; each epoch has all rows once, batches may span two."""
    np_rng = np.random.default_rng(0)
    rows = np.empty(0, np.int64)
    while True:
        while len(rows) < batch_size:
            rows = np.concatenate([rows, np_rng.permutation(count)])
        yield rows[:batch_size]
        rows = rows[batch_size:]


def _load(
    dataset: data.Dataset, batch_size: int, device: torch.device, num_workers: int
) -> Batches:
    """Yields the batches of a DataLoader, sent to the device without waiting."""
    on_gpu = device.type == "cuda"
    loader = data.DataLoader(
        dataset,
        batch_sampler=(rows.tolist() for rows in _shuffled(len(dataset), batch_size)),
        num_workers=num_workers,
        pin_memory=on_gpu,
    )
    for images, masks in loader:
        yield images.to(device, non_blocking=on_gpu), masks.to(device, non_blocking=on_gpu)
