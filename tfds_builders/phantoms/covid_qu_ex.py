"""Writes phantom X-rays in the layout of the COVID-QU-Ex download."""

import pathlib

import numpy as np
from PIL import Image

from tfds_builders.phantoms import chest_xray, whole_tree

VERSION = 1  # Increase it whenever the generator draws other images.
THINGS = "X-rays"  # Their name in logs.
NAMES = {"COVID-19": "covid_{}.png", "Non-COVID": "non_COVID ({}).png", "Normal": "Normal ({}).png"}
FINDINGS = {"COVID-19": "infection", "Non-COVID": "lobar", "Normal": "none"}

# As published.
_SPLIT_SHARES = {"Train": 0.64, "Val": 0.16, "Test": 0.2}
_LABEL_SHARES = {"COVID-19": 0.5, "Non-COVID": 0.25, "Normal": 0.25}


def write(
    root: pathlib.Path, num_images: int, image_size: int = 256, seed: int = 0
) -> pathlib.Path:
    """Writes a generated "Infection Segmentation Data" of COVID-QU-Ex; whole or not at all.

    It has the peculiarities of real copies: doubled folders, spaces in names, RGB among grey
    images, stray files, black infection masks for Non-COVID and none for Normal.

    Args:
        root: folder to make. If the same call made it before, nothing is done.
        num_images: number of images, at least 20; split and class shares are the published ones.
        image_size: height and width in pixels, at least 16.
        seed: seed; equal seeds give equal trees.

    Returns:
        `root`.

    Raises:
        ValueError: too few images, or `root` holds something else.
    """
    return whole_tree.write_xrays(
        root, num_images, image_size, seed, least=20, write_files=_write_tree
    )


def counts(num_images: int) -> dict[tuple[str, str], int]:
    """Returns numbers of images by split and label, at least 1; rounding may change their sum."""
    return {
        (split, label): max(1, round(num_images * share * label_share))
        for split, share in _SPLIT_SHARES.items()
        for label, label_share in _LABEL_SHARES.items()
    }


def _write_tree(root: pathlib.Path, num_images: int, image_size: int, seed: int) -> None:
    data = root / "Infection Segmentation Data" / "Infection Segmentation Data"
    numbers = dict.fromkeys(NAMES, 0)
    for (split, label), count in counts(num_images).items():
        folder = data / split / label
        kinds = ["images", "lung masks", "infection masks"]
        for kind in kinds if label != "Normal" else kinds[:2]:
            (folder / kind).mkdir(parents=True)
        (folder / "images" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        for _ in range(count):
            numbers[label] += 1
            _write_sample(folder, label, numbers[label], image_size, seed)


def _write_sample(
    folder: pathlib.Path, label: str, number: int, image_size: int, seed: int
) -> None:
    np_rng = np.random.default_rng([seed, list(NAMES).index(label), number])
    xray = chest_xray.make(np_rng, image_size, FINDINGS[label])
    name = NAMES[label].format(number)
    image = Image.fromarray(xray.image)
    image = image.convert("RGB") if number % 3 == 0 else image
    image.save(folder / "images" / name)
    Image.fromarray(xray.lung_mask).convert("L").save(folder / "lung masks" / name)
    # Some Non-COVID images have a black mask, some have none.
    if label == "COVID-19" or (label == "Non-COVID" and number % 4):
        infection = Image.fromarray(xray.infection_mask).convert("L")
        infection.save(folder / "infection masks" / name)
