"""Writes phantom X-rays in the layout in which Darwin downloads V7's dataset."""

import dataclasses
import json
import pathlib
from typing import Any

import contourpy
import numpy as np
from PIL import Image

from tfds_builders.phantoms import chest_xray, whole_tree

VERSION = 1  # Increase it whenever the generator draws other images.
THINGS = "X-rays"  # Their name in logs.
SUFFIXES = (".jpg", ".jpeg", ".png", ".PNG", ".JPG")
COVID_SHARE = 0.15  # With the real share of 0.07, small trees would have no COVID-19.
MIN_CONTRAST = 25  # Grey levels; about half of the phantoms drawn with an infection have it.
# Tags of the diagnosis, finding to draw, and share of the images without COVID-19.
_OTHERS = (
    (("Bacterial Pneumonia",), "lobar", 0.45),
    (("Viral Pneumonia",), "lobar", 0.2),
    (("No Pneumonia (healthy)",), "none", 0.35),
)
_FIRST_NUMBERS = {"kermany": 959_789, "cohen": 1_676_192}
_BROKEN = "\ue000"  # Stands for a byte that is not UTF-8.


@dataclasses.dataclass(frozen=True)
class _Case:
    """One image to draw: its finding, and its annotation."""

    number: int
    tags: tuple[str, ...]
    finding: str
    original_stem: str
    has_lungs: bool = True


def write(
    root: pathlib.Path, num_images: int, image_size: int = 256, seed: int = 0
) -> pathlib.Path:
    """Writes a generated download of `all-images`; whole or not at all.

    It has the peculiarities of the real one: JPEG and PNG with suffixes in all spellings, RGB among
    grey images, images named by `filename`, some by `original_filename` or number, several images
    a patient, one patient under two numbers, `Ignore` outlines, text that is not UTF-8, and lateral
    views and CT slices that only have tags.

    Args:
        root: folder to make. If the same call made it before, nothing is done.
        num_images: number of frontal X-rays with lungs, at least 20; 15 % have COVID-19. A lateral
            view and a CT slice are added for every 20.
        image_size: longest side in pixels, at least 16.
        seed: seed; equal seeds give equal trees.

    Returns:
        `root`.

    Raises:
        ValueError: too few images, or `root` holds something else.
    """
    return whole_tree.write_xrays(
        root, num_images, image_size, seed, least=20, write_files=_write_tree
    )


def num_covid(num_images: int) -> int:
    """Returns the number of frontal X-rays with lungs that have COVID-19."""
    return round(COVID_SHARE * num_images)


def _write_tree(root: pathlib.Path, num_images: int, image_size: int, seed: int) -> None:
    annotations = root / "releases" / "all-images" / "annotations"
    for folder in (root / "images", annotations / ".v7"):
        folder.mkdir(parents=True)
    (annotations / ".v7" / "metadata.json").write_text('{"version": "1.0", "classes": []}')
    (root / "images" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    for index, case in enumerate(_cases(num_images)):
        _write_case(root, annotations, index, case, image_size, seed)


def _cases(num_images: int) -> list[_Case]:
    covid = num_covid(num_images)
    num_tagged_only = max(1, num_images // 20)
    cases = _other_cases(num_images - covid)
    cases += [_covid_case(i) for i in range(covid)]
    number = cases[-1].number
    for i in range(num_tagged_only):
        tags = ("Viral Pneumonia", "COVID-19", f"PatientID:{200 + i}")
        lateral = (("View/Lateral", "View/L")[i % 2], "X-ray", *tags)
        ct = ("CT", "View/Axial", *tags)
        cases.append(_Case(number + 1, lateral, "infection", f"{i}-L", has_lungs=False))
        cases.append(_Case(number + 2, ct, "infection", f"{i}-CT", has_lungs=False))
        number += 2
    return cases


def _other_cases(count: int) -> list[_Case]:
    """Returns cases of Kermany et al.: children named only in the file name, two images each."""
    shares = [share for _, _, share in _OTHERS]
    kinds = np.searchsorted(np.cumsum(shares), (np.arange(count) + 0.5) / count)
    cases = []
    for i, kind in enumerate(kinds):
        tags, finding, _ = _OTHERS[kind]
        name = {"Bacterial Pneumonia": f"person{i // 2}_bacteria_{i}"}.get(tags[0])
        name = name or {"Viral Pneumonia": f"person{i // 2}_virus_{i}"}.get(tags[0])
        name = name or f"IM-{i // 2:04}-0001-{i % 2:04}"
        number = _FIRST_NUMBERS["kermany"] + i
        cases.append(_Case(number, ("X-ray", *tags, "View/AP"), finding, name))
    return cases


def _covid_case(i: int) -> _Case:
    """Returns a case of Cohen et al.: patients with 1 or 2 images; the first has two numbers."""
    person = 2 * i // 3
    patient = {0: 97, 1: 178}.get(i, 300 + person)
    tags = [
        *(("View/PA", "View/AP", "View/AP_Supine")[i % 3], "X-ray", "Viral Pneumonia", "COVID-19"),
        *(f"Sex/{'FM'[person % 2]}", f"PatientID:{patient}", "Survival/Y", "Temperature:38.5"),
    ]
    if i % 3:  # Age is often unknown.
        tags.append(f"Age:{30 + person % 50}")
    if i == 1:
        tags += ["ARDS", f"location:Hospital Universit{_BROKEN}rio"]
    return _Case(_FIRST_NUMBERS["cohen"] + i, tuple(tags), "infection", f"covid-19-pneumonia-{i}")


def _write_case(
    root: pathlib.Path,
    annotations: pathlib.Path,
    index: int,
    case: _Case,
    image_size: int,
    seed: int,
) -> None:
    np_rng = np.random.default_rng([seed, case.number])
    xray = _draw(np_rng, image_size, case.finding)
    top, bottom = np_rng.integers(0, 1 + image_size // 16, 2)
    pixels = xray.image[top : image_size - bottom]
    lungs = xray.lung_mask[top : image_size - bottom]
    suffix = SUFFIXES[index % len(SUFFIXES)]
    file_names = f"{index + 1:08}{suffix}", case.original_stem + suffix
    stored_as = (*file_names[:1] * 5, file_names[1], f"{case.number}{suffix}")[index % 7]
    image = Image.fromarray(pixels if case.has_lungs else pixels.T)
    image = image.convert("RGB") if index % 3 == 0 else image
    image.save(root / "images" / stored_as, quality=92)
    outlines = _outlines(np_rng, lungs, index) if case.has_lungs else []
    content = _darwin_json(case, index, file_names, image.size, outlines)
    (annotations / f"{case.number}.json").write_bytes(content)


def _draw(np_rng: np.random.Generator, size: int, finding: str) -> chest_xray.ChestXray:
    """Draws a phantom; with COVID-19, one whose opacities have at least `MIN_CONTRAST`."""
    xray = chest_xray.make(np_rng, size, finding)
    while finding == "infection" and _contrast(xray) < MIN_CONTRAST:
        xray = chest_xray.make(np_rng, size, finding)
    return xray


def _contrast(xray: chest_xray.ChestXray) -> float:
    """Returns by how many grey levels the infected part of the lungs is brighter than the rest."""
    free = xray.lung_mask & ~xray.infection_mask
    if not (free.any() and xray.infection_mask.any()):
        return 0.0
    return float(xray.image[xray.infection_mask].mean() - xray.image[free].mean())


def _outlines(np_rng: np.random.Generator, lungs: np.ndarray, index: int) -> list[dict[str, Any]]:
    """Returns outlines of the two lungs, and on some images of objects over them."""
    found = [{"name": "Lung", "polygon": {"path": ring}} for ring in _trace(lungs)]
    rows, columns = np.nonzero(lungs)
    spot = np_rng.integers(len(rows))
    x, y, side = float(columns[spot]), float(rows[spot]), len(lungs) / 12
    if index == 3:
        rings = [_square(x, y, side), _square(x, y, side / 2)]
        found.append({"name": "Ignore", "complex_polygon": {"path": rings}})
    elif index % 6 == 0:
        found.append({"name": "Ignore", "polygon": {"path": _square(x, y, side)}})
    return found


def _trace(mask: np.ndarray) -> list[list[dict[str, float]]]:
    """Returns outlines of the two largest regions, in pixels; the first pixel's centre is 0, 0.

    They lie a quarter of a pixel outside the outermost centres.
    """
    padded = np.pad(mask.astype(np.float32), 1)  # So that every outline is closed.
    lines: list[np.ndarray] = contourpy.contour_generator(z=padded).lines(0.75)  # type: ignore[assignment]  # Its type depends on a setting.
    largest = sorted(lines, key=_area)[-2:]
    return [[{"x": float(x - 1), "y": float(y - 1)} for x, y in line] for line in largest]


def _area(line: np.ndarray) -> float:
    """Returns the area inside a closed line, by the shoelace formula."""
    x, y = line.T
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2


def _square(x: float, y: float, side: float) -> list[dict[str, float]]:
    half = side / 2
    corners = [(-half, -half), (half, -half), (half, half), (-half, half)]
    return [{"x": x + dx, "y": y + dy} for dx, dy in corners]


def _darwin_json(
    case: _Case,
    index: int,
    file_names: tuple[str, str],
    size: tuple[int, int],
    outlines: list[dict[str, Any]],
) -> bytes:
    """Returns the content of a JSON file in Darwin's version 1.0."""
    image = {
        "seq": index + 1,
        "width": size[0],
        "height": size[1],
        "filename": file_names[0],
        "original_filename": file_names[1],
        "url": f"https://darwin.v7labs.com/api/images/{case.number}/original?token=none",
    }
    tags = [{"name": tag, "tag": {}} for tag in case.tags]
    content = {
        "image": image,
        "dataset": "COVID-19 Chest X-Ray Dataset",
        "annotated": True,
        "annotations": outlines + tags,
    }
    text = json.dumps(content, ensure_ascii=False)
    return text.encode().replace(_BROKEN.encode(), b"\xe1")
