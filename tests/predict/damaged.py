"""Makes damaged files of every format: cut, changed, misnamed, empty, false headers, bombs."""

import functools
import gzip
import io
import struct
import zlib

import nibabel
import numpy as np
from PIL import Image
from pydicom import uid

from tests import array_source, volume_source
from tests.image import image_files
from tests.volume import dicom_series

SIZE = 40
SHAPE = (6, 16, 16)
ABSURD = 60_000  # pixels along a side, 16 bits
EXPLODING_BYTES = 32 << 20
DIM = 40  # where NIfTI-1 has it
SUFFIXES = (".png", ".jpg", ".tif", ".dcm", ".nii", ".nii.gz", ".bmp")
SLICES = 4


def make(folder, count, seed, *, volumes=False):
    """Writes `count` damaged files, or folders of slices; returns their paths."""
    np_rng = np.random.default_rng(seed)
    lying = (lying_volumes() if volumes else []) + lying_pictures()
    wholes = whole_volumes() if volumes else whole_pictures()
    paths = []
    for i in range(count):
        if volumes and i % 4 == 3:
            paths.append(write_series(folder / f"{i}", np_rng))
            continue
        if i < 2 * len(lying) and i % 2 == 0:
            suffix, content = lying[i // 2]
        else:
            suffix, content = wholes[np_rng.integers(len(wholes))]
            content = spoilt(content, np_rng)
            suffix = SUFFIXES[np_rng.integers(len(SUFFIXES))] if np_rng.random() < 0.2 else suffix
        paths.append(folder / f"{i}{suffix}")
        paths[-1].write_bytes(content)
    return paths


def spoilt(content, np_rng):
    """Damage of one of seven kinds; a changed byte may leave a good file."""
    content, start = bytearray(content), int(np_rng.integers(len(content)))
    early = int(np_rng.integers(min(len(content), 400)))
    kind = np_rng.integers(7)
    if kind == 0:
        return bytes(content[:start])
    if kind == 1:
        for place in np_rng.integers(0, len(content), np_rng.integers(1, 13)):
            content[place] = np_rng.integers(256)
    elif kind == 2:
        content[early : early + 8] = np_rng.bytes(8)
    elif kind == 3:
        content[early : early + 4] = b"\x7f\xff\xff\xff"
    elif kind == 4:
        content[start : start + 64] = b"\xff" * 64
    elif kind == 5:
        return b"" if np_rng.random() < 0.3 else np_rng.bytes(int(np_rng.integers(1, 2000)))
    return bytes(content)  # The last kind is none: maybe another suffix.


def write_series(folder, np_rng):
    """Slices of which one is damaged, or not where it should be."""
    datasets = [dicom_series.make_slice(k) for k in range(SLICES)]
    datasets[1].ImagePositionPatient[2] += [0.0, 1.0][np_rng.integers(2)]
    dicom_series.save(folder, datasets, [f"{k}" for k in range(SLICES)])
    path = folder / "2"
    path.write_bytes(spoilt(path.read_bytes(), np_rng))
    return folder


@functools.cache
def whole_pictures():
    """Suffixes with contents, without damage."""
    image = Image.fromarray(array_source.ArraySource(1, SIZE)[0].image[: SIZE - 9])
    sixteen = Image.fromarray(np.asarray(image).astype(np.uint16) * 200)
    exif = image_files.oriented(6)
    encode = image_files.encoded
    return [
        (".png", encode(image, "PNG")),
        (".png", encode(image.convert("P"), "PNG", exif=exif)),
        (".png", encode(sixteen, "PNG")),
        (".jpg", encode(image, "JPEG")),
        (".jpg", encode(image.convert("RGB"), "JPEG", exif=exif, progressive=True)),
        (".tif", encode(sixteen, "TIFF", exif=exif)),
        *((".tif", encode(image, "TIFF", compression=c)) for c in ("tiff_lzw", "jpeg")),
        (".tif", encode(image.convert("RGBA"), "TIFF", compression="tiff_adobe_deflate")),
        (".dcm", dicom(image)),
        (".dcm", dicom(image, compress=True)),
        (".nii.gz", nifti_of(array_source.ArraySource(1)[0].image[..., None])),
    ]


@functools.cache
def whole_volumes():
    hu = volume_source.VolumeSource([SHAPE])[0].image
    return [
        (".nii", gzip.decompress(nifti_of(hu))),
        (".nii", gzip.decompress(nifti_of(hu.astype(np.float32)))),
        (".nii.gz", nifti_of(hu)),
        (".nii.gz", nifti_of(hu, nibabel.Nifti2Image)),
    ]


def lying_pictures():
    """Files whose headers say what isn't so, or that grow when they are read."""
    grey = Image.fromarray(np.zeros((SIZE, SIZE), np.uint8))
    good = image_files.encoded(grey, "PNG")
    jpeg = bytearray(image_files.encoded(grey, "JPEG"))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = struct.pack(">HH", 65_500, 65_500)
    dx = functools.partial(dicom, grey)
    return [
        (".png", png_of(ABSURD, ABSURD, bytes(100))),
        (".png", png_of(2**31 - 1, 2**31 - 1, bytes(100))),
        (".png", png_of(20_000, 20_000, bytes(EXPLODING_BYTES))),
        (".png", png_of(SIZE, SIZE, bytes(EXPLODING_BYTES))),
        (".png", good.replace(b"IDAT", b"IDAT\xff", 1)),
        (".png", good[:-20] + b"\0\0" + good[-18:]),
        (".jpg", bytes(jpeg)),
        (".tif", tiff_of({256: ABSURD, 257: ABSURD})),
        (".tif", tiff_of({256: 2**32 - 1, 257: 2**32 - 1})),
        (".tif", tiff_of({279: 2**32 - 1})),
        (".tif", tiff_of({322: 2**30, 323: 2**30, 324: 8, 325: 100})),
        (".tif", tiff_of({}, following=[108])),
        (".tif", tiff_of({}, following=[1 << 31])),
        (".dcm", dx(Rows=ABSURD, Columns=ABSURD)),
        (".dcm", dx(NumberOfFrames=10**9)),
        (".dcm", dx(Rows=0)),
        (".dcm", dx(RescaleSlope="1e308", RescaleIntercept="1e308")),
        (".dcm", dx(compress=True, Rows=9_000, Columns=9_000)),
    ]


def lying_volumes():
    small = gzip.decompress(nifti_of(np.zeros((2, 2, 2), np.int16)))
    claims = [bytearray(small) for _ in range(3)]
    shapes = [(3, 999, 999, 999), (3, 32_767, 32_767, 32_767), (7, -1, 0, 4)]
    for content, shape in zip(claims, shapes, strict=True):
        struct.pack_into("<4h", content, DIM, *shape)
    bomb = gzip.compress(small) + gzip.compress(bytes(EXPLODING_BYTES))
    far = bytearray(small)
    struct.pack_into("<3f", far, 80, 1e30, 1e-30, 1.0)  # pixdim
    return [
        *((".nii", bytes(content)) for content in claims),
        *((".nii.gz", gzip.compress(content)) for content in claims),
        (".nii.gz", bomb),
        (".nii", bytes(far)),
        (".nii.gz", gzip.compress(small)[:-9]),
    ]


def dicom(image, *, compress=False, **tags):
    """An X-ray; `tags` are set last, and need not be true."""
    dataset = dicom_series.make_slice()
    dataset.Modality = "DX"
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dicom_series.set_pixels(dataset, np.asarray(image.convert("L")))
    if compress:
        dataset.compress(uid.RLELossless)
    for name, value in tags.items():
        setattr(dataset, name, value)
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


def nifti_of(array, kind=nibabel.Nifti1Image):
    """[D, H, W] as a .nii.gz."""
    return gzip.compress(kind(array.T, np.diag([-1.0, -1, 2, 1])).to_bytes())


def png_of(width, height, pixels):
    """8 bits of grey, with true checksums."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0),
        b"IDAT": zlib.compress(pixels),
        b"IEND": b"",
    }
    parts = [
        struct.pack(">I", len(chunk)) + kind + chunk + struct.pack(">I", zlib.crc32(kind + chunk))
        for kind, chunk in chunks.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff_of(tags, following=(0,)):
    """8 bits of grey by the TIFF 6.0 standard; `tags` replace what would be true."""
    size = 10
    true = {256: size, 257: size, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: size, 279: size**2}
    entries = sorted((true | tags).items())
    packed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    directory = struct.pack("<H", len(entries)) + packed + struct.pack("<I", *following)
    return b"II*\0" + struct.pack("<I", 8 + size**2) + bytes(range(size**2)) + directory
