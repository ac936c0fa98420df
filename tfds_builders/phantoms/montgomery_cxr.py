"""Writes phantom X-rays in the layout of the Montgomery download."""

import itertools
import pathlib

import numpy as np
from PIL import Image

from tfds_builders.phantoms import chest_anatomy, chest_xray, whole_tree

VERSION = 1  # Increase it whenever the generator draws other images.
THINGS = "X-rays"  # Their name in logs.
# Numbers of the images of two people, in order.
PEOPLE = ((113, 117), (162, 166, 170))

_TUBERCULOSIS_SHARE = 58 / 138
_LANDSCAPE_SHARE = 41 / 138
_SHORT_SIDE = 4020 / 4892
_OF_OTHER_SEX = 4  # Number of the one image with sex O; published as 80.


def write(
    root: pathlib.Path, num_images: int, image_size: int = 320, seed: int = 0
) -> pathlib.Path:
    """Writes a generated `MontgomerySet`; whole or not at all.

    It has the peculiarities of the real one: portrait and landscape films, a 1-bit mask per lung
    named by the side of the image, several X-rays of one person (from 12 images on), stray files.

    Args:
        root: folder to make. If the same call made it before, nothing is done.
        num_images: number of X-rays, at least 2; class shares are the published ones.
        image_size: longest side in pixels, at least 16.
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
    """Returns file stems, normal first; numbers and class shares are like the published ones."""
    count = max(1, round(num_images * _TUBERCULOSIS_SHARE))
    known = list(itertools.chain(*PEOPLE))
    others = (number for number in itertools.count(1) if number not in known)
    normal = list(itertools.islice(others, num_images - count))
    ill = sorted(known[:count] + list(itertools.islice(others, count - len(known[:count]))))
    return [f"MCUCXR_{n:04}_0" for n in normal] + [f"MCUCXR_{n:04}_1" for n in ill]


def _write_tree(root: pathlib.Path, num_images: int, image_size: int, seed: int) -> None:
    data = root / "MontgomerySet"
    for folder in ("CXR_png", "ManualMask/leftMask", "ManualMask/rightMask", "ClinicalReadings"):
        (data / folder).mkdir(parents=True)
        (data / folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (data / "NLM-MontgomeryCXRSet-ReadMe.pdf").write_bytes(b"%PDF-1.4")
    for stem in stems(num_images):
        _write_sample(data, stem, image_size, seed)


def _write_sample(data: pathlib.Path, stem: str, image_size: int, seed: int) -> None:
    number, label = int(stem.split("_")[1]), stem[-1]
    person = next((people[0] for people in PEOPLE if number in people), number)
    finding = ("lobar", "infection", "infection")[person % 3] if label == "1" else "none"
    rng_seed = [seed, person]
    xray = chest_xray.make(np.random.default_rng(rng_seed), image_size, finding)
    # The generator draws the frame first; x < 0 is the patient's right, the image's left.
    on_left = chest_anatomy.make_frame(np.random.default_rng(rng_seed), image_size).x < 0
    np_rng = np.random.default_rng([seed, number, 1])  # The same person, filmed again.
    place = _film_box(np_rng, image_size)
    planes = {
        "CXR_png": Image.fromarray(xray.image),
        "ManualMask/leftMask": Image.fromarray(xray.lung_mask & on_left),
        "ManualMask/rightMask": Image.fromarray(xray.lung_mask & ~on_left),
    }
    for folder, plane in planes.items():
        plane.crop(place).save(data / folder / f"{stem}.png")
    reading = data / "ClinicalReadings" / f"{stem}.txt"
    reading.write_text(_reading(rng_seed, number, finding), newline="")


def _film_box(np_rng: np.random.Generator, image_size: int) -> tuple[int, int, int, int]:
    """Draws the part of the square X-ray that is on a film of the published proportions."""
    short = round(image_size * _SHORT_SIDE)
    # A landscape film cuts off neck or belly, a portrait one the arms.
    start = round((image_size - short) * np_rng.uniform(0.3, 0.7))
    if np_rng.uniform() < _LANDSCAPE_SHARE:
        return 0, start, image_size, start + short
    return start, 0, start + short, image_size


def _reading(rng_seed: list[int], number: int, finding: str) -> str:
    np_rng, person = np.random.default_rng([*rng_seed, 2]), rng_seed[1]
    sex, age = np_rng.choice(["F", "M"]), np_rng.integers(4, 90)
    sex = "O" if number == _OF_OTHER_SEX else sex
    text = {"none": "normal", "lobar": "lobar consolidation", "infection": "diffuse infiltrates"}
    lines = [f"Patient's Sex: {sex} ", f"Patient's Age: {age:03}Y", text[finding]]
    lines += [f"same patient as MCUCXR_{person:04}_1"] if person != number else []
    return "\r\n".join([*lines, ""])
