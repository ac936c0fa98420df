"""Image files as bytes, for tests."""

import io

from PIL import Image

ORIENTATION = 0x0112  # EXIF's tag
# From the EXIF standard: where the stored rows and columns belong.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.T,
    6: lambda x: x[::-1].T,
    7: lambda x: x[::-1, ::-1].T,
    8: lambda x: x[:, ::-1].T,
}


def encoded(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def oriented(orientation):
    """Metadata that say so; any number will do."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif
