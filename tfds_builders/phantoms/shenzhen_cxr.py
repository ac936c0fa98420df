"""Writes phantom X-rays in the layout of the two Shenzhen downloads, X-rays and masks."""

import pathlib

import numpy as np
from PIL import Image

from tfds_builders.phantoms import chest_xray, whole_tree

VERSION = 1  # Increase it whenever the generator draws other images.
THINGS = "X-rays"  # Their name in logs.
# Readings, with %s for the finding; the last one is not UTF-8.
READINGS = (
    b"male 45yrs\r\n%s",
    b"female24yrs\r\n%s",
    b"femal 32yrs\r\n%s",
    b"Male , 29yrs  \t\r\n%s",
    b"male 16month\r\n%s",
    b"female 64days\r\n%s",
    b"male 42\r\n%s",
    b"female 38yrs",
    b"male 51yrs\r\n%s\xa3\xac\xd7\xf3\xb7\xce",
)

_TUBERCULOSIS_SHARE = 336 / 662
_RGB_EVERY = 9  # Published: every 25th.
_UNMASKED_EVERY = 7  # As published.


def write(
    root: pathlib.Path, num_images: int, image_size: int = 320, seed: int = 0
) -> pathlib.Path:
    """Writes a generated `ChinaSet_AllFiles` and its masks beside it; whole or not at all.

    It has the peculiarities of the real one: palettes, some RGB, a different size for every X-ray,
    one in seven without a mask, readings in many spellings, stray files.

    Args:
        root: folder to make. If the same call made it before, nothing is done.
        num_images: number of X-rays, at least 2, with a mask or without.
        image_size: longest side of the largest X-ray in pixels, at least 24.
        seed: seed; equal seeds give equal trees.

    Returns:
        `root`.

    Raises:
        ValueError: too few images, or `root` holds something else.
    """
    return whole_tree.write_xrays(
        root, num_images, image_size, seed, least=2, write_files=_write_tree
    )


def stems(num_images: int) -> list[str]:
    """Returns file stems, normal first; class shares are the published ones."""
    normal = num_images - max(1, round(num_images * _TUBERCULOSIS_SHARE))
    return [f"CHNCXR_{n:04}_{int(n > normal)}" for n in range(1, num_images + 1)]


def has_mask(stem: str) -> bool:
    """Tells whether a mask is written for the X-ray."""
    return _number(stem) % _UNMASKED_EVERY != 3


def _write_tree(root: pathlib.Path, num_images: int, image_size: int, seed: int) -> None:
    data, masks = root / "ChinaSet_AllFiles", root / "mask" / "mask"
    for folder in (data / "CXR_png", data / "ClinicalReadings", masks):
        folder.mkdir(parents=True)
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (data / "NLM-ChinaCXRSet-ReadMe.docx").write_bytes(b"PK")
    for stem in stems(num_images):
        np_rng = np.random.default_rng([seed, _number(stem)])
        image, mask = _film(np_rng, image_size, ill=stem.endswith("1"))
        image = image.convert("RGB") if _number(stem) % _RGB_EVERY == 2 else _with_palette(image)
        image.save(data / "CXR_png" / f"{stem}.png")
        if has_mask(stem):
            mask.save(masks / f"{stem}_mask.png")
        reading = _reading(_number(stem), ill=stem.endswith("1"))
        (data / "ClinicalReadings" / f"{stem}.txt").write_bytes(reading)


def _number(stem: str) -> int:
    return int(stem.split("_")[1])


def _film(
    np_rng: np.random.Generator, image_size: int, *, ill: bool
) -> tuple[Image.Image, Image.Image]:
    """Draws an X-ray and its lungs, both mode L, on a film of varying size."""
    finding = str(np_rng.choice(["infection", "lobar"])) if ill else "none"
    size = round(image_size * np_rng.uniform(0.75, 1))
    xray = chest_xray.make(np_rng, size, finding)
    sides = np.maximum(16, np.round(size * np_rng.uniform(0.85, 1, 2))).astype(int)
    width, height = map(int, sides)
    left, top = (size - width) // 2, (size - height) // 2
    box = (left, top, left + width, top + height)
    image, mask = Image.fromarray(xray.image), Image.fromarray(xray.lung_mask)
    return image.crop(box), mask.crop(box).convert("L")


def _with_palette(image: Image.Image) -> Image.Image:
    """Returns the image in mode P, brightest level first, so that indices are not grey levels."""
    levels, indices = np.unique(np.asarray(image), return_inverse=True)
    indices = len(levels) - 1 - indices.reshape(image.height, image.width)
    paletted = Image.fromarray(indices.astype(np.uint8))
    paletted.putpalette(np.repeat(levels[::-1], 3).tobytes())
    return paletted


def _reading(number: int, *, ill: bool) -> bytes:
    text = READINGS[(number - 1) % len(READINGS)]
    return text.replace(b"%s", b"bilateral PTB" if ill else b"normal")
