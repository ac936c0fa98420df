"""One DICOM file, told by its content and read with or without what should stand before it."""

import dataclasses
import io
import os
import re
import textwrap
from collections.abc import Collection, Sequence
from typing import Any

import pydicom
from etils import epath
from pydicom import filereader, uid
from pydicom import pixels as dicom_pixels

from jaxlung.host import files

CT = "CT"
HEAD_BYTES = 4096  # of a file, to tell it by
_MAGIC = slice(128, 132)  # after a preamble that may hold another format's first bytes
# A dataset without preamble begins with group 0002, or with 0008 in either order of bytes.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
_MODALITY = 0x00080060
_CODE = re.compile(r"[A-Z]{2,16}")  # of a modality
_CODE_WIDTH = 16  # letters in a CS
_DICOM_UIDS = "1.2.840.10008."
# Pydicom inflates a whole dataset at once, and deflate expands up to a thousandfold. Our choice.
_MOST_DEFLATED = 2 << 20  # bytes
_REASON_WIDTH = 150  # pydicom may quote half of a damaged file
# What pydicom raises on damaged files.
DAMAGE = (
    *files.DECODE_ERRORS,
    pydicom.errors.InvalidDicomError,
    pydicom.errors.BytesLengthException,
)
ROLE_TAGS = (
    *("ImageType", "SOPClassUID", "Modality", "SeriesInstanceUID"),
    *("ImagePositionPatient", "NumberOfFrames"),
)


@dataclasses.dataclass(frozen=True)
class Role:
    """What a file is to a CT series.

    Attributes:
        modality: "CT" also where only the storage class says so; "" where nothing does.
        series: its SeriesInstanceUID; "" if it names none.
        beside: of a CT's files a localizer (scout), or a captured screen without a place in
            space: no slices.
        frames: images in the file.
    """

    modality: str
    series: str
    beside: bool
    frames: int

    def is_companion(self, series: Collection[str]) -> bool:
        """Tells whether it may be left out of a folder with CT slices of these series.

        Other modalities have series of their own: what claims to be of a CT's, or names none, is
        a slice that is damaged, or one whose modality an anonymiser took out.
        """
        is_other = self.modality != CT and bool(_CODE.fullmatch(self.modality))
        return self.beside or (is_other and bool(self.series) and self.series not in series)


def is_dicom(head: bytes) -> bool:
    """Tells a DICOM file by its first `HEAD_BYTES`.

    One without preamble must begin as a dataset does, and say of which kind it is.
    """
    return head[_MAGIC] == b"DICM" or (head[:2] in _FIRST_GROUPS and _names_its_kind(head))


def is_deflated(path: os.PathLike[str] | str) -> bool:
    """Tells whether the file names the transfer syntax that deflates whole datasets."""
    with epath.Path(path).open("rb") as file:
        return uid.DeflatedExplicitVRLittleEndian.encode() in file.read(HEAD_BYTES)


def read(
    path: os.PathLike[str] | str, tags: Sequence[str] | None = None, *, pixels: bool = True
) -> pydicom.FileDataset:
    """Reads a file that `is_dicom`.

    Args:
        path: of the file.
        tags: what is read of it; None for all.
        pixels: read what comes after the header too.

    Returns:
        A dataset whose `file_meta` has a TransferSyntaxUID: where the file names none, that of
        its encoding, as far as pixels are not compressed.

    Raises:
        ValueError: naming the file: damaged, cut short, compressed in a way that it doesn't name,
            or deflated as a whole and over 2 MiB.
        OSError: it can't be opened.
    """
    _require_small_if_deflated(path)
    with epath.Path(path).open("rb") as file:
        try:
            dataset = pydicom.dcmread(
                file, stop_before_pixels=not pixels, specific_tags=tags, force=True
            )
        except DAMAGE as error:
            raise ValueError(f"{path}: truncated or damaged ({reason(error)}).") from error
    syntax = value(path, dataset.file_meta, "TransferSyntaxUID")
    if not syntax:
        _name_syntax(path, dataset)
    elif not isinstance(syntax, uid.UID):
        raise ValueError(f"{path}: truncated or damaged (got {syntax} for its transfer syntax).")
    return dataset


def value(path: os.PathLike[str] | str, header: pydicom.Dataset, name: str) -> Any:
    """Returns a tag's value, parsed only here; None where there is none."""
    try:
        return header.get(name)
    except DAMAGE as error:
        raise ValueError(f"{path}: {name} can't be read ({reason(error)}).") from error


def role(path: os.PathLike[str] | str, header: pydicom.Dataset) -> Role:
    """Returns what a file is to a CT series, by `ROLE_TAGS` of its header.

    Raises:
        ValueError: naming the file: one of them can't be read.
    """
    tags = {name: value(path, header, name) for name in ROLE_TAGS}
    is_screen = (
        tags["SOPClassUID"] == uid.SecondaryCaptureImageStorage and not tags["ImagePositionPatient"]
    )
    is_scout = "LOCALIZER" in str(tags["ImageType"])
    try:
        frames = int(tags["NumberOfFrames"] or 1)
    except DAMAGE as error:
        raise ValueError(f"{path}: NumberOfFrames can't be read ({reason(error)}).") from error
    kind = modality(path, header)
    beside = kind == CT and (is_screen or is_scout)
    return Role(kind, str(tags["SeriesInstanceUID"] or ""), beside, frames)


def modality(path: os.PathLike[str] | str, header: pydicom.Dataset) -> str:
    """Returns the file's modality as `Role` has it.

    Raises:
        ValueError: naming the file: it can't be read.
    """
    named = str(value(path, header, "Modality") or "").strip()[:_CODE_WIDTH]
    is_ct = value(path, header, "SOPClassUID") in (uid.CTImageStorage, uid.EnhancedCTImageStorage)
    return CT if is_ct and not named else named


def multi_frame(path: os.PathLike[str] | str, frames: float) -> ValueError:
    """Returns the error to raise of an enhanced CT."""
    return ValueError(
        f"{path}: want one slice a file, got a multi-frame file of {frames:g} (an enhanced CT?); "
        "convert it to NIfTI first, for example with dcm2niix."
    )


def require_decoder(path: os.PathLike[str] | str, syntax: uid.UID) -> None:
    """Raises ValueError, naming the packages to install, unless pixels can be decoded."""
    try:
        decoder = dicom_pixels.get_decoder(syntax)
    except NotImplementedError:
        raise ValueError(f"{path}: its pixels ({syntax.name}) can't be decoded here.") from None
    if not decoder.is_available:
        plugin = "openjpeg" if "2000" in syntax.name else "libjpeg"
        raise ValueError(
            f"{path}: its pixels ({syntax.name}) need another package: "
            f"pip install pylibjpeg pylibjpeg-{plugin}"
        )


def reason(error: Exception) -> str:
    """Returns what pydicom says, its first line."""
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return textwrap.shorten(line, _REASON_WIDTH) or type(error).__name__


def _names_its_kind(head: bytes) -> bool:
    try:
        start = filereader.read_partial(
            io.BytesIO(head), lambda tag, vr, length: tag > _MODALITY, force=True
        )
        storage = start.file_meta.get("MediaStorageSOPClassUID") or start.get("SOPClassUID")
        modality = start.get("Modality")
    except DAMAGE:
        return False
    is_known = str(storage or "").startswith(_DICOM_UIDS)
    return is_known or bool(_CODE.fullmatch(str(modality or "")))


def _require_small_if_deflated(path: os.PathLike[str] | str) -> None:
    size = epath.Path(path).stat().length
    if size > _MOST_DEFLATED and is_deflated(path):
        raise ValueError(
            f"{path}: want at most {_MOST_DEFLATED:,} bytes of a deflated dataset, got {size:,}."
        )


def _name_syntax(path: os.PathLike[str] | str, dataset: pydicom.FileDataset) -> None:
    if "SOPClassUID" not in dataset and "Modality" not in dataset:
        raise ValueError(f"{path}: truncated or damaged (it says neither what it is nor how).")
    if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
        raise ValueError(
            f"{path}: its pixels are compressed, and it lacks the TransferSyntaxUID (0002,0010) "
            "that says how."
        )
    is_implicit, is_little = dataset.original_encoding
    explicit = uid.ExplicitVRLittleEndian if is_little else uid.ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if is_implicit else explicit
