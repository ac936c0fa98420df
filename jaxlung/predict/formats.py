"""Recognises a file's format by its first bytes."""

import os
import pathlib
import zlib

from jaxlung.predict import quiet
from jaxlung.volume import dicom_file

PICTURES = ("PNG", "JPEG", "TIFF", "DICOM")
WANTED = f"a {', '.join(PICTURES)} or NIfTI file"

_STARTS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
}
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib's number for the largest window and a gzip header
_NIFTI_HEADERS = {  # size of the header, in its first four bytes -> place and values of its magic
    348: (slice(344, 347), (b"n+1", b"ni1")),
    540: (slice(4, 7), (b"n+2", b"ni2")),
}
_HEAD_BYTES = dicom_file.HEAD_BYTES


def sniff(path: pathlib.Path) -> str:
    """Returns the file's format: "PNG", "JPEG", "TIFF", "DICOM", "NIfTI", or "" for others.

    Also returns "" for a folder, a pipe, or a file that is missing or can't be read.
    """
    try:
        return _format(_head(path))
    except (OSError, ValueError):
        return ""


def refuse(path: pathlib.Path) -> ValueError:
    """Returns the error to raise for a file whose format `sniff` doesn't know."""
    try:
        head = _head(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return ValueError(f"{path}: want {WANTED}, got one that can't be read ({reason}).")
    got = f"one that starts with {head[:8]!r}" if head else "an empty one"
    return ValueError(f"{path}: want {WANTED}, got {got}.")


def _head(path: pathlib.Path) -> bytes:
    # Opening a pipe would wait for its other end.
    if path.exists() and not path.is_file():
        raise ValueError("a folder, a pipe or a device")
    with open(os.fspath(path), "rb") as file:
        return file.read(_HEAD_BYTES)


def _format(head: bytes) -> str:
    with quiet.region():
        if dicom_file.is_dicom(head):
            return "DICOM"
    for start, name in _STARTS.items():
        if head.startswith(start):
            return name
    return "NIfTI" if _is_nifti(head) else ""


def _is_nifti(head: bytes) -> bool:
    if head.startswith(_GZIP):
        try:
            head = zlib.decompressobj(_GZIP_WINDOW).decompress(head, _HEAD_BYTES)
        except zlib.error:
            return False
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    return any(
        head[where] in magics for size, (where, magics) in _NIFTI_HEADERS.items() if size in sizes
    )
