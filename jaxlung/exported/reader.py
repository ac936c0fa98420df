"""Reads a network from one file, without the code that trained it.

For X-rays this module needs JAX and NumPy and nothing else of jaxlung: a copy of the module works.
For CTs it imports `reader_ct`, which needs SciPy and the rooms `data` and `volume`.

`export/writer.py` writes the file, an uncompressed zip of

    manifest.json         describes the network, its inputs and outputs; holds all SHA-256 digests
    program.jax_export    the program by `jax.export`: StableHLO for CPU, CUDA and TPU
    weights/<path>.npy    the program's other arguments besides the images

The program scales the input, runs the network and applies the thresholds, all at the network's own
input size. This module resizes an X-ray to that size and the result back, with the same result as
Pillow gives in training (`data/transforms/resize.py`).
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

FORMAT = "jaxlung.exported"  # Written in every file: the name outlives that of the module.
VERSION = 2  # Version 1 had no digest of the manifest.
MANIFEST = "manifest.json"
PROGRAM = "program.jax_export"
WEIGHTS = "weights/"
DIGEST = "digest"  # of all other fields, see `digest`
FIELDS = ("task", "records", "levels", "borders", "inputs", "size", "resize", "volumes", "sha256")
VOLUME_FIELDS = ("spacing_mm", "overlap", "batch_size", "keep_largest")
VOLUME_SWITCHES = ("crop_to_lungs", "mirror", "inside_lungs")
RESIZES = ("squash", "pad")

# Limits far above what a network needs (our choice), so that a forged file can't exhaust memory or
# time.
_MOST_MANIFEST = 4 << 20  # bytes
_MOST_PIXELS = 1 << 26  # in one input
_MOST_BATCH = 1024
_MOST_OVERLAP = 0.95

# Pillow's 8-bit resampling rounds weights to multiples of 2 ** -22.
_PRECISION = 22


@dataclasses.dataclass(frozen=True, eq=False)
class Exported:
    """An exported network, made by `load`.

    Attributes:
        path: the file that it was read from.
        manifest: the content of `manifest.json`, described in docs/export.md.
        run: the program, (images, masks or None) -> (probs, preds). Images are [B, H, W] uint8 or
            [B, D, H, W] int16 HU. Masks are uint8 of the same shape with bit 1 set in the lungs,
            for a network that `needs_lungs`. Probs (float32) and preds (uint8, indices into the
            levels) have the shape of the images, or [B, 1, 1] for a diagnosis. Compiles once for
            each shape.
    """

    path: pathlib.Path
    manifest: dict[str, Any]
    run: Callable[[Any, Any], tuple[jax.Array, jax.Array]]

    @property
    def needs_lungs(self) -> bool:
        """True if the network sees the inside of the lungs alone, so that it needs a lung mask."""
        return "masks" in self.manifest["inputs"]

    def predict(
        self,
        image: np.ndarray,
        lungs: np.ndarray | None = None,
        spacing_mm: tuple[float, float, float] | None = None,
    ) -> np.ndarray:
        """Returns the mask of one X-ray or CT at its own size, equal to the exported run's.

        Args:
            image: an X-ray [H, W] uint8, bone white; or a CT [D, H, W] int16 HU, whose axes point
                to the patient's superior, posterior and left.
            lungs: [H, W] or [D, H, W] bool, required if `needs_lungs`. For any network of CTs it
                limits where foreground may be found.
            spacing_mm: distances between a CT's voxels along D, H, W. Required if the network was
                trained at a spacing of its own.

        Returns:
            uint8 of the image's shape, indices into `manifest["levels"]`; [1, 1] for a diagnosis.

        Raises:
            ValueError: the image or the lungs have another type or shape, or one of the required
                arguments is None.
        """
        probs = self.probs(image, lungs, spacing_mm)
        levels = self.levels(probs)
        if self.manifest["records"] == "images":
            return levels
        from jaxlung.exported import reader_ct  # Only CTs need SciPy and more of jaxlung.

        return reader_ct.keep_largest(levels, self.manifest["volumes"]["keep_largest"])

    def probs(
        self,
        image: np.ndarray,
        lungs: np.ndarray | None = None,
        spacing_mm: tuple[float, float, float] | None = None,
    ) -> np.ndarray:
        """Returns the probabilities behind `predict`: float32 in [0, 1], of the image's shape.

        Takes the same arguments as `predict`. A diagnosis gives [1, 1].
        """
        is_volume = self.manifest["records"] == "volumes"
        _require_image(image, *((3, np.int16) if is_volume else (2, np.uint8)))
        self._require_lungs(image, lungs)
        if is_volume:
            return self._probs_of_ct(image, lungs, spacing_mm)
        size, how = self.manifest["size"][0], self.manifest["resize"]
        masks = None
        if self.needs_lungs and lungs is not None:
            masks = fit_mask(lungs, size, how)[None]
        probs, _ = self.run(fit(image, size, how)[None], masks)
        found = np.asarray(probs[0])
        height, width = image.shape
        return found if found.size == 1 else unfit(found, height, width, how)

    def _probs_of_ct(
        self,
        image: np.ndarray,
        lungs: np.ndarray | None,
        spacing_mm: tuple[float, float, float] | None,
    ) -> np.ndarray:
        trained_mm = self.manifest["volumes"]["spacing_mm"]
        if spacing_mm is None and any(trained_mm):
            raise ValueError(
                f"{self.path}: trained at a spacing of {trained_mm} mm; want spacing_mm of the CT, "
                "got None."
            )
        from jaxlung.exported import reader_ct

        return reader_ct.predict(self.run, self.manifest, image, lungs, spacing_mm)

    def levels(self, probs: np.ndarray) -> np.ndarray:
        """Returns the levels of probabilities of any shape: the number of borders below, uint8."""
        above = np.stack([probs > np.float32(border) for border in self.manifest["borders"]])
        return np.add.reduce(above, axis=0, dtype=np.uint8)

    def _require_lungs(self, image: np.ndarray, lungs: np.ndarray | None) -> None:
        if lungs is None and self.needs_lungs:
            raise ValueError(
                f"{self.path}: the network sees the lungs alone; want a lung mask, got None."
            )
        if lungs is not None and (lungs.shape != image.shape or lungs.dtype != bool):
            raise ValueError(f"lungs: want {image.shape} bool, got {lungs.shape} {lungs.dtype}.")


def load(path: pathlib.Path | str) -> Exported:
    """Reads a network that `jaxlung export` wrote.

    Args:
        path: the file.

    Raises:
        ValueError: the file is missing, damaged or no exported network, or this version of JAX
            can't read it.
        ImportError: the package `flatbuffers`, which `jax.export` needs, is missing.
    """
    path = pathlib.Path(path)
    manifest, weights, content = _parse(path)
    try:
        program = jax.export.deserialize(bytearray(content))
    except ImportError:
        raise
    except Exception as error:  # Another version of JAX may raise anything here.
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        made_by = manifest.get("versions", {}).get("jax")
        raise ValueError(
            f"{path}: JAX {jax.__version__} can't read this program of JAX {made_by} ({reason})."
        ) from error
    _require_fit(path, manifest, program, weights)
    call = jax.jit(program.call)  # The weights are arguments, so they aren't compiled in.
    return Exported(path, manifest, functools.partial(_run, call, _put(weights)))


def read_networks(path: pathlib.Path | str) -> tuple[dict[str, Any], list[dict[str, np.ndarray]]]:
    """Reads the networks of a file without their program, for code that has the networks itself.

    Returns:
        The manifest, and the weights by path of each of its "members" (of the file itself, if an
        earlier version wrote it), "params/encoder_0/conv_0/kernel".

    Raises:
        ValueError: the file is missing, damaged or no exported network.
    """
    manifest, weights, _ = _parse(pathlib.Path(path))
    if "members" not in manifest:
        return manifest | {"members": [manifest]}, [weights]
    members = range(len(manifest["members"]))
    prefixes = [f"{number}/" for number in members]
    return manifest, [
        {name.removeprefix(x): array for name, array in weights.items() if name.startswith(x)}
        for x in prefixes
    ]


def _parse(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, np.ndarray], bytes]:
    """Returns the manifest, the weights by name and the bytes of the program of a file."""
    members = _read(path)
    manifest = _read_manifest(path, members)
    weights = {
        name.removeprefix(WEIGHTS).removesuffix(".npy"): _read_array(path, name, content)
        for name, content in members.items()
        if name.startswith(WEIGHTS)
    }
    return manifest, weights, members[PROGRAM]


def _put(weights: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    try:
        return jax.device_put(weights)
    except AssertionError as error:  # Raised, without a message, for a plug-in not installed.
        raise ValueError(
            f"JAX_PLATFORMS: got {jax.config.values['jax_platforms']!r}, but JAX finds no such "
            "device here; unset the variable to let JAX choose."
        ) from error


def _run(
    call: Callable[..., Any], weights: dict[str, jax.Array], images: Any, masks: Any = None
) -> tuple[jax.Array, jax.Array]:
    return call(weights, {"images": images} | ({} if masks is None else {"masks": masks}))


def _read(path: pathlib.Path) -> dict[str, bytes]:
    """Returns the file's members by name; their sizes add up to at most the file's size."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: want a file.")
    try:
        with zipfile.ZipFile(path) as archive:
            items = archive.infolist()
            stored = {item.filename: item for item in items}
            packed = [item for item in items if item.compress_type != zipfile.ZIP_STORED]
            if MANIFEST not in stored or packed or len(stored) < len(items):
                raise ValueError(f"{path}: not a network that jaxlung exported.")
            # Members that overlap would expand to more than the file holds.
            total = sum(item.file_size for item in items)
            if total > path.stat().st_size or stored[MANIFEST].file_size > _MOST_MANIFEST:
                raise ValueError(f"{path}: damaged: its members are larger than the file allows.")
            return {name: archive.read(item) for name, item in stored.items()}
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error.strerror or error}).") from error
    # Changed bytes make `zipfile` raise the other three, too.
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: no exported network, or a damaged one ({error}).") from error


def _read_manifest(path: pathlib.Path, members: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        manifest = json.loads(members[MANIFEST])
        kind, version = manifest["format"], manifest["format_version"]
        digests = dict(manifest["sha256"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path}: {MANIFEST} was not written by jaxlung ({error!r}).") from error
    if (kind, version) != (FORMAT, VERSION):
        older = kind == FORMAT and version == 1
        hint = "; an older jaxlung wrote it: export the run again" if older else ""
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
    """Returns the SHA-256 of all fields of a manifest except `DIGEST`, in hexadecimal."""
    fields = {name: value for name, value in manifest.items() if name != DIGEST}
    return sha256(json.dumps(fields, sort_keys=True).encode())


def _judge(manifest: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yields the name of each field and True if its value is possible.

    Each check relies on the ones before it, so the caller stops at the first False.
    """
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
    """Yields the names and checks of the fields of "volumes", as `_judge` does."""
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
    return isinstance(value, list) and all(type(x) is kind for x in value)  # True is an int, too.


def _are_numbers(value: Any, length: int, low: float, high: float) -> bool:
    if not isinstance(value, list) or len(value) != length:
        return False
    return all(type(x) in (int, float) and low <= x <= high for x in value)  # Also False for NaN.


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
    except Exception as error:  # JAX may raise anything for a program that doesn't fit.
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"{path}: its program and {MANIFEST} don't fit ({reason}).") from error
    if (probs.dtype, preds.dtype) != (np.float32, np.uint8) or probs.shape != preds.shape:
        raise ValueError(f"{path}: its program returns {probs}, {preds}; want probs, preds.")
    if probs.shape not in ((1, *size), (1,) * (len(size) + 1)):
        raise ValueError(f"{path}: its program returns {probs.shape} for images of {size}.")


def _read_array(path: pathlib.Path, name: str, content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version of .npy")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        # A view of the bytes, so that a forged header can't make it allocate more.
        array = np.frombuffer(content, dtype, offset=stream.tell())
        return array.reshape(shape, order="F" if is_fortran else "C")
    except (ValueError, TypeError, MemoryError) as error:
        raise ValueError(f"{path}: {name} is no array ({error}).") from error


def sha256(content: bytes) -> str:
    """Returns the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _require_image(image: np.ndarray, ndim: int, dtype: type) -> None:
    if image.ndim != ndim or image.dtype != dtype or 0 in image.shape:
        axes = {2: "[H, W]", 3: "[D, H, W]"}[ndim]
        raise ValueError(
            f"image: want {axes} {np.dtype(dtype)}, not empty, got {image.shape} {image.dtype}."
        )


def fit(image: np.ndarray, size: int, how: str) -> np.ndarray:
    """Resizes an image [H, W] uint8 to [size, size] uint8, as `resize.fit` does."""
    height, width = image.shape
    rows, columns = _inner_box(height, width, size, how)
    fitted = np.full((size, size), image.min(), np.uint8)
    fitted[rows, columns] = bilinear(image, rows.stop - rows.start, columns.stop - columns.start)
    return fitted


def fit_mask(lungs: np.ndarray, size: int, how: str) -> np.ndarray:
    """Resizes a lung mask [H, W] bool to [size, size] uint8, as `resize.fit` does; 1 is lung."""
    height, width = lungs.shape
    rows, columns = _inner_box(height, width, size, how)
    fitted = np.zeros((size, size), np.uint8)
    inner = rows.stop - rows.start, columns.stop - columns.start
    fitted[rows, columns] = bilinear(lungs.astype(np.float32), *inner) > 0.5
    return fitted


def unfit(probs: np.ndarray, height: int, width: int, how: str) -> np.ndarray:
    """Resizes [S, S] float32 back to [height, width] float32, as `resize.unfit` does."""
    rows, columns = _inner_box(height, width, probs.shape[0], how)
    return bilinear(probs[rows, columns], height, width)


def _inner_box(height: int, width: int, size: int, how: str) -> tuple[slice, slice]:
    """Returns the rows and columns of the square that the image covers; with "pad" the middle."""
    if how == "squash":
        return slice(0, size), slice(0, size)
    scale = size / max(height, width)
    return _centred(height * scale, size), _centred(width * scale, size)


def _centred(length: float, size: int) -> slice:
    pixels = max(1, round(length))
    return slice((size - pixels) // 2, (size - pixels) // 2 + pixels)


def bilinear(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes [H, W] uint8 or float32 to [height, width], as Pillow's BILINEAR `resize`.

    The filter is a triangle that widens when the image shrinks. It runs along rows first, then
    along columns, and each pass is rounded to the array's type: equal to the bit to Pillow's
    src/libImaging/Resample.c. Pillow 13 runs along columns first for some images that shrink in
    height, which changes some pixels by one grey level.
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
    for tap in range(weights.shape[1]):  # In Pillow's order, on which sums of floats depend.
        rows = array[np.minimum(first + tap, len(array) - 1)]
        total += weights[:, tap, None] * rows
    return (total >> _PRECISION).astype(np.uint8) if is_integer else total.astype(np.float32)


def _triangles(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first source pixel of each new pixel, [after] int, and its weights, [after, K].

    Weight k of a new pixel belongs to the source pixel `first + k`.
    """
    scale = before / after
    support = max(scale, 1.0)
    centre = (np.arange(after) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + support + 0.5).astype(np.int64), before)
    place = first[:, None] + np.arange(math.ceil(support) * 2 + 1)
    away = np.abs((place - centre[:, None] + 0.5) * (1 / support))
    weights = np.where((place < stop[:, None]) & (away < 1), 1 - away, 0.0)
    # cumsum adds one after the other, as Pillow does; NumPy's sum adds in pairs.
    return first, weights / np.cumsum(weights, axis=1)[:, -1:]
