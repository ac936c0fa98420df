"""PNG files of 16 bits a channel, which Pillow doesn't write, by the PNG standard."""

import struct
import zlib

import numpy as np

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels


def chunk(kind, content):
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc


def encoded(pixels, *before_pixels):
    """A file of [H, W, C] pixels, each row as what it adds to the one above (filter 2)."""
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").reshape(height, -1).view("u1")
    added = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    lines = b"".join(b"\2" + row.tobytes() for row in added)
    head = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            *before_pixels,
            chunk(b"IDAT", zlib.compress(lines)),
            chunk(b"IEND", b""),
        ]
    )
