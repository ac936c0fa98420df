"""What decoders raise on files that are no longer what their header says."""

import struct
import zlib

# Pillow and pydicom both, by format and by where the damage is: they parse as if all were well.
# Each adds some of its own: `data.image_file.DECODE_ERRORS` and `volume.dicom.DAMAGE`.
ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
)
