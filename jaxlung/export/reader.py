"""A network from one file, without the code that trained it: needs JAX and NumPy alone.

`export.py` writes the file: a zip, nothing in it compressed, of

    manifest.json         what the network is, takes and gives; SHA-256 of the rest and of itself
    program.jax_export    the program by `jax.export`: StableHLO for CPU, CUDA and TPU
    weights/<path>.npy    what the program takes beside the images

The program scales, predicts and takes thresholds at the network's own size. What brings any X-ray
there and the answer back is here, as Pillow does it for the run (`data/resize.py`).
"""

import dataclasses
import functools
import hashlib
import io
import json
import math
import pathlib
import reprlib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.export
import numpy as np

FORMAT = "jaxlung.export.reader"
VERSION = 2  # 1 had no digest of the manifest
MANIFEST = "manifest.json"
PROGRAM = "program.jax_export"
WEIGHTS = "weights/"
DIGEST = "digest"  # of all other fields, by `digest`
FIELDS = ("task", "records", "levels", "borders", "inputs", "size", "resize", "volumes", "sha256")
VOLUME_FIELDS = ("spacing_mm", "overlap", "batch_size", "keep_largest")
VOLUME_SWITCHES = ("crop_to_lungs", "mirror", "inside_lungs")
RESIZES = ("squash", "pad")

# What no network needs (our choice), so that a forged file takes neither memory nor hours.
_MOST_MANIFEST = 4 << 20  # bytes
_MOST_PIXELS = 1 << 26  # of one input
_MOST_BATCH = 1024
_MOST_OVERLAP = 0.95

# Of Pillow's 8-bit resampling: weights are whole numbers of 2 ** -22.
_PRECISION = 22


@dataclasses.dataclass(frozen=True, eq=False)
class Exported:
    """A network that `load` read.

    Attributes:
        path: of the file.
        manifest: `manifest.json`; docs/export.md says what is in it.
        run: the program, (images, masks or None) -> (probs, preds): images [B, H, W] uint8 or
            [B, D, H, W] int16 HU; packed lung masks (bit 1), uint8 of that shape, if `needs_lungs`;
            probs float32 and preds uint8, an index into the levels, of that shape too ([B, 1, 1] of
            a diagnosis). Compiled once for each shape.
    """

    path: pathlib.Path
    manifest: dict[str, Any]
    run: Callable[[Any, Any], tuple[jax.Array, jax.Array]]

    @property
    def needs_lungs(self) -> bool:
        """Whether it looks inside the lungs alone, and must be told where they are."""
        return "masks" in self.manifest["inputs"]

    def predict(
        self,
        image: np.ndarray,
        lungs: np.ndarray | None = None,
        spacing_mm: tuple[float, float, float] | None = None,
    ) -> np.ndarray:
        """The mask of one image or CT, at its own size, as the run that was exported gives it.

        Args:
            image: X-ray, [H, W] uint8, bone white; or CT, [D, H, W] int16 HU, growing to the
                patient's superior, posterior and left.
            lungs: [H, W] or [D, H, W] bool, if `needs_lungs`; of CTs it may be given elsewhere
                too.
            spacing_mm: of a CT, along D, H, W; for networks trained at a spacing of their own.

        Returns:
            uint8 of the image's shape, an index into `manifest["levels"]`; of a diagnosis [1, 1].

        Raises:
            ValueError: an image, or lungs, of another kind or shape.
        """
        probs = self.probs(image, lungs, spacing_mm)
        if self.manifest["records"] == "volumes":
            from jaxlung.export import reader_ct as exported_ct  # SciPy, for CTs alone.

            return exported_ct.find_foreground(self, probs)
        return self.levels(probs)

    def probs(
        self,
        image: np.ndarray,
        lungs: np.ndarray | None = None,
        spacing_mm: tuple[float, float, float] | None = None,
    ) -> np.ndarray:
        """What `predict` takes thresholds of: float32 in [0, 1], of the image's shape."""
        is_volume = self.manifest["records"] == "volumes"
        _require_image(image, *((3, np.int16) if is_volume else (2, np.uint8)))
        self._require_lungs(image, lungs)
        if is_volume:
            from jaxlung.export import reader_ct as exported_ct

            return exported_ct.predict(self, image, lungs, spacing_mm)
        size, how = self.manifest["size"][0], self.manifest["resize"]
        masks = fit_mask(lungs, size, how)[None] if self.needs_lungs else None
        probs, _ = self.run(fit(image, size, how)[None], masks)
        found = np.asarray(probs[0])
        return found if found.size == 1 else unfit(found, *image.shape, how)

    def levels(self, probs: np.ndarray) -> np.ndarray:
        """Probabilities of any shape to uint8: how many of the borders they are above."""
        above = [probs > np.float32(border) for border in self.manifest["borders"]]
        return np.sum(above, axis=0, dtype=np.uint8)

    def _require_lungs(self, image: np.ndarray, lungs: np.ndarray | None) -> None:
        if lungs is None and self.needs_lungs:
            raise ValueError(f"{self.path}: the network sees lungs alone; want lungs, got None.")
        if lungs is not None and (lungs.shape != image.shape or lungs.dtype != bool):
            raise ValueError(f"lungs: want {image.shape} bool, got {lungs.shape} {lungs.dtype}.")


def load(path: pathlib.Path | str) -> Exported:
    """Reads a network that `export.export` wrote.

    Args:
        path: the file.

    Raises:
        ValueError: it isn't there, is something else, is damaged, or this JAX can't read it.
        ImportError: `flatbuffers` is missing, which `jax.export` reads programs with.
    """
    path = pathlib.Path(path)
    members = _read(path)
    manifest = _read_manifest(path, members)
    weights = {
        name.removeprefix(WEIGHTS).removesuffix(".npy"): _read_array(path, name, content)
        for name, content in members.items()
        if name.startswith(WEIGHTS)
    }
    try:
        program = jax.export.deserialize(bytearray(members[PROGRAM]))
    except ImportError:
        raise
    except Exception as error:  # Of another JAX: it raises what it meets.
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        made_by = manifest.get("versions", {}).get("jax")
        raise ValueError(
            f"{path}: JAX {jax.__version__} can't read this program of JAX {made_by} ({reason})."
        ) from error
    _require_fit(path, manifest, program, weights)
    # As arguments of the compiled program they are no part of it.
    call = jax.jit(program.call)
    return Exported(path, manifest, functools.partial(_run, call, _put(weights)))


def _put(weights: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    try:
        return jax.device_put(weights)
    except AssertionError as error:  # JAX says no more of a plug-in that isn't installed.
        raise ValueError(
            f"JAX_PLATFORMS: got {jax.config.jax_platforms!r}, and JAX finds no such device here; "
            "unset it and JAX chooses."
        ) from error


def _run(
    call: Callable[..., Any], weights: dict[str, jax.Array], images: Any, masks: Any = None
) -> tuple[jax.Array, jax.Array]:
    return call(weights, {"images": images} | ({} if masks is None else {"masks": masks}))


def _read(path: pathlib.Path) -> dict[str, bytes]:
    """The file's members by name; their sizes add up to no more than the file's."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: want a file.")
    try:
        with zipfile.ZipFile(path) as archive:
            items = archive.infolist()
            stored = {item.filename: item for item in items}
            packed = [item for item in items if item.compress_type != zipfile.ZIP_STORED]
            if MANIFEST not in stored or packed or len(stored) < len(items):
                raise ValueError(f"{path}: not a network that jaxlung exported.")
            # Members that lie over each other would unfold to more than was sent.
            total = sum(item.file_size for item in items)
            if total > path.stat().st_size or stored[MANIFEST].file_size > _MOST_MANIFEST:
                raise ValueError(f"{path}: damaged: its members are larger than they can be.")
            return {name: archive.read(item) for name, item in stored.items()}
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error.strerror or error}).") from error
    # Beside BadZipFile it raises these where bytes were changed.
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: no exported network, or a damaged one ({error}).") from error


def _read_manifest(path: pathlib.Path, members: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        manifest = json.loads(members[MANIFEST])
        kind, version = manifest["format"], manifest["format_version"]
        digests = dict(manifest["sha256"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path}: {MANIFEST} is not one of jaxlung's ({error!r}).") from error
    if (kind, version) != (FORMAT, VERSION):
        older = kind == FORMAT and version == 1
        hint = "; it is of an older jaxlung: export the run again" if older else ""
        raise ValueError(f"{path}: want {FORMAT} {VERSION}, got {kind} {version}{hint}.")
    missing = [name for name in (*FIELDS, DIGEST) if name not in manifest]
    if missing:
        raise ValueError(f"{path}: {MANIFEST} has no {', '.join(missing)}.")
    if manifest[DIGEST] != digest(manifest):
        raise ValueError(f"{path}: damaged: {MANIFEST} differs from its own digest.")
    wrong = next((name for name, is_good in _judge(manifest) if not is_good), None)
    if wrong:
        got = functools.reduce(lambda tree, name: tree[name], wrong.split("."), manifest)
        raise ValueError(f"{path}: {MANIFEST}: {wrong} can't be {reprlib.repr(got)}.")
    found = {name: sha256(content) for name, content in members.items() if name != MANIFEST}
    if found != digests or PROGRAM not in found:
        changed = sorted(
            name for name in {*found, *digests, PROGRAM} if found.get(name) != digests.get(name)
        )
        more = f" and {len(changed) - 3} others" if len(changed) > 3 else ""
        named = ", ".join(map(reprlib.repr, changed[:3]))
        raise ValueError(f"{path}: damaged: {named}{more} differ from the manifest.")
    return manifest


def digest(manifest: Mapping[str, Any]) -> str:
    """Returns that of all fields of a manifest but `DIGEST`, hexadecimal."""
    fields = {name: value for name, value in manifest.items() if name != DIGEST}
    return sha256(json.dumps(fields, sort_keys=True).encode())


def _judge(manifest: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yields fields, and whether their values can be; each relies on those before it."""
    is_volumetric, levels = manifest["records"] == "volumes", manifest["levels"]
    yield "records", is_volumetric or manifest["records"] == "images"
    yield "task", isinstance(manifest["task"], str)
    yield "levels", _is_list(levels, str) and 2 <= len(levels) <= 256 and all(levels)
    borders, size = manifest["borders"], manifest["size"]
    yield "borders", _are_numbers(borders, len(levels) - 1, 0, 1) and borders == sorted(borders)
    are_counts = _is_list(size, int) and _are_numbers(size, 3 if is_volumetric else 2, 1, math.inf)
    yield "size", are_counts and math.prod(size) <= _MOST_PIXELS
    if not is_volumetric:
        yield "size", size[0] == size[1]
    yield "resize", manifest["resize"] in ((None,) if is_volumetric else RESIZES)
    inputs = manifest["inputs"]
    yield "inputs", isinstance(inputs, dict) and {"images"} <= set(inputs) <= {"images", "masks"}
    yield "volumes", isinstance(manifest["volumes"], dict if is_volumetric else type(None))
    if is_volumetric:
        yield from _judge_volumes(manifest["volumes"])


def _judge_volumes(how: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yields the same of the field "volumes"."""
    yield "volumes", {*VOLUME_FIELDS, *VOLUME_SWITCHES} <= set(how)
    spacing, counts = how["spacing_mm"], [how["batch_size"], how["keep_largest"]]
    are_lengths = _are_numbers(spacing, 3, 0, 100)  # 0 keeps an axis.
    yield "volumes.spacing_mm", are_lengths and not any(0 < x < 0.01 for x in spacing)
    yield "volumes.overlap", _are_numbers([how["overlap"]], 1, 0, _MOST_OVERLAP)
    yield "volumes.batch_size", _is_list(counts[:1], int) and 1 <= counts[0] <= _MOST_BATCH
    yield "volumes.keep_largest", _is_list(counts[1:], int) and counts[1] >= 0
    for name in VOLUME_SWITCHES:
        yield f"volumes.{name}", isinstance(how[name], bool)


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(x) is kind for x in value)  # True is no int.


def _are_numbers(value: Any, length: int, low: float, high: float) -> bool:
    if not isinstance(value, list) or len(value) != length:
        return False
    return all(type(x) in (int, float) and low <= x <= high for x in value)  # NaN is not.


def _require_fit(
    path: pathlib.Path,
    manifest: Mapping[str, Any],
    program: jax.export.Exported,
    weights: Mapping[str, np.ndarray],
) -> None:
    """Raises ValueError unless the program takes the weights and the images of the manifest."""
    is_volumetric, size = manifest["records"] == "volumes", tuple(manifest["size"])
    dtypes = {"images": np.int16 if is_volumetric else np.uint8, "masks": np.uint8}
    batch = {name: jax.ShapeDtypeStruct((1, *size), dtypes[name]) for name in manifest["inputs"]}
    try:
        probs, preds = jax.eval_shape(program.call, weights, batch)
    except Exception as error:  # JAX raises what it meets.
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"{path}: its program and {MANIFEST} don't fit ({reason}).") from error
    if (probs.dtype, preds.dtype) != (np.float32, np.uint8) or probs.shape != preds.shape:
        raise ValueError(f"{path}: its program gives {probs} and {preds}, want probs and preds.")
    if probs.shape not in ((1, *size), (1,) * (len(size) + 1)):
        raise ValueError(f"{path}: its program gives {probs.shape} of images of {size}.")


def _read_array(path: pathlib.Path, name: str, content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version of .npy")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        # A view of what was read: a header can't ask for more.
        array = np.frombuffer(content, dtype, offset=stream.tell())
        return array.reshape(shape, order="F" if is_fortran else "C")
    except (ValueError, TypeError, MemoryError) as error:
        raise ValueError(f"{path}: {name} is no array ({error}).") from error


def sha256(content: bytes) -> str:
    """Returns the digest of bytes, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _require_image(image: np.ndarray, ndim: int, dtype: type) -> None:
    if image.ndim != ndim or image.dtype != dtype or 0 in image.shape:
        axes = {2: "[H, W]", 3: "[D, H, W]"}[ndim]
        raise ValueError(
            f"image: want {axes} {np.dtype(dtype)}, not empty, got {image.shape} {image.dtype}."
        )


def fit(image: np.ndarray, size: int, how: str) -> np.ndarray:
    """`resize.fit` of an image alone: [H, W] uint8 to [size, size] uint8."""
    rows, columns = _inner_box(*image.shape, size, how)
    fitted = np.full((size, size), image.min(), np.uint8)
    fitted[rows, columns] = bilinear(image, rows.stop - rows.start, columns.stop - columns.start)
    return fitted


def fit_mask(lungs: np.ndarray, size: int, how: str) -> np.ndarray:
    """`resize.fit` of lungs alone: [H, W] bool to [size, size] uint8, 1 in the lungs."""
    rows, columns = _inner_box(*lungs.shape, size, how)
    fitted = np.zeros((size, size), np.uint8)
    inner = rows.stop - rows.start, columns.stop - columns.start
    fitted[rows, columns] = bilinear(lungs.astype(np.float32), *inner) > 0.5
    return fitted


def unfit(probs: np.ndarray, height: int, width: int, how: str) -> np.ndarray:
    """`resize.unfit`: [S, S] float32 to [height, width] float32."""
    rows, columns = _inner_box(height, width, probs.shape[0], how)
    return bilinear(probs[rows, columns], height, width)


def _inner_box(height: int, width: int, size: int, how: str) -> tuple[slice, slice]:
    """Rows and columns of the square that the image covers: all, or with "pad" the middle."""
    if how == "squash":
        return slice(0, size), slice(0, size)
    box = []
    for length in (height, width):
        pixels = max(1, round(length * (size / max(height, width))))
        box.append(slice((size - pixels) // 2, (size - pixels) // 2 + pixels))
    return tuple(box)


def bilinear(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """[H, W] uint8 or float32 to [height, width], as Pillow's `resize` by BILINEAR.

    A triangle filter that widens when shrinking: along rows first, then along columns, each pass
    rounded to the array's type (Pillow, src/libImaging/Resample.c), to the bit. Pillow 13 takes
    some images that shrink in height along columns first: one grey level there is another one.
    """
    across = np.ascontiguousarray(_down(np.ascontiguousarray(array.T), width).T)
    return _down(across, height)


def _down(array: np.ndarray, size: int) -> np.ndarray:
    if len(array) == size:
        return array
    first, weights = _triangles(len(array), size)
    is_integer = array.dtype == np.uint8
    if is_integer:
        weights = np.floor(weights * 2**_PRECISION + 0.5).astype(np.int32)
    start = 1 << (_PRECISION - 1) if is_integer else 0.0
    total = np.full((size, array.shape[1]), start, weights.dtype)
    for tap in range(weights.shape[1]):  # In Pillow's order: sums of floats depend on it.
        rows = array[np.minimum(first + tap, len(array) - 1)]
        total += weights[:, tap, None] * rows
    return (total >> _PRECISION).astype(np.uint8) if is_integer else total.astype(np.float32)


def _triangles(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """First source of each of `after` places, [after] int, and weights from there, [after, K]."""
    scale = before / after
    support = max(scale, 1.0)
    centre = (np.arange(after) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + support + 0.5).astype(np.int64), before)
    place = first[:, None] + np.arange(math.ceil(support) * 2 + 1)
    away = np.abs((place - centre[:, None] + 0.5) * (1 / support))
    weights = np.where((place < stop[:, None]) & (away < 1), 1 - away, 0.0)
    # One after the other, as Pillow adds them: NumPy's sum pairs.
    return first, weights / np.cumsum(weights, axis=1)[:, -1:]
