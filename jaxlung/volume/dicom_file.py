"""Recognises and reads one DICOM file, with or without its preamble and file header."""

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
HEAD_BYTES = 4096  # at the start of a file, enough to recognise it
_MAGIC = slice(128, 132)  # after a preamble that may hold another format's first bytes
# A dataset without preamble begins with group 0002, or with 0008 in either byte order.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
_MODALITY = 0x00080060
_CODE = re.compile(r"[A-Z]{2,16}")  # of a modality
CODE_WIDTH = 16  # the most characters of a code string (CS)
_DICOM_UIDS = "1.2.840.10008."
# Pydicom inflates a whole dataset at once, and deflate expands up to a thousandfold. Our choice.
_MOST_DEFLATED = 2 << 20  # bytes
_REASON_WIDTH = 150  # characters of pydicom's messages, which may quote half of a damaged file
# The errors that pydicom raises for damaged files.
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
    """The part that a file plays in a CT series.

    Attributes:
        modality: the file's modality; "CT" also if only the storage class says so; "" if unknown.
        series: the file's SeriesInstanceUID; "" if it has none.
        beside: True for a CT's file that is no slice: a localizer (scout), or a captured screen
            without a place in space.
        frames: number of images in the file.
    """

    modality: str
    series: str
    beside: bool
    frames: int

    def is_companion(self, series: Collection[str]) -> bool:
        """Returns True if the file may be left out of a folder with CT slices of these series.

        Other modalities have series of their own. A file of another modality that claims to be in
        a CT's series, or names no series, is a damaged slice, or one whose modality an anonymiser
        removed, and may not be left out.
        """
        is_other = self.modality != CT and bool(_CODE.fullmatch(self.modality))
        return self.beside or (is_other and bool(self.series) and self.series not in series)


def is_dicom(head: bytes) -> bool:
    """Returns True if the first `HEAD_BYTES` of a file are those of a DICOM file.

    Without a preamble, the file must begin as a dataset does and name its modality or class.
    """
    return head[_MAGIC] == b"DICM" or (head[:2] in _FIRST_GROUPS and _names_its_kind(head))


def is_deflated(path: os.PathLike[str] | str) -> bool:
    """Returns True if the file names the transfer syntax that deflates whole datasets."""
    with epath.Path(path).open("rb") as file:
        return uid.DeflatedExplicitVRLittleEndian.encode() in file.read(HEAD_BYTES)


def read(
    path: os.PathLike[str] | str, tags: Sequence[str] | None = None, *, pixels: bool = True
) -> pydicom.FileDataset:
    """Reads a file for which `is_dicom` is True.

    Args:
        path: the file.
        tags: names of the tags to read; None for all.
        pixels: also read the pixels, which come after the header.

    Returns:
        A dataset whose `file_meta` has a TransferSyntaxUID. If the file names none, it is the one
        of the dataset's encoding, with uncompressed pixels.

    Raises:
        ValueError: the file is damaged or truncated, has compressed pixels but no transfer syntax,
            or is deflated as a whole and larger than 2 MiB; names the file.
        OSError: the file can't be opened.
    """
    _require_small_if_deflated(path)
    with epath.Path(path).open("rb") as file:
        try:
            dataset = pydicom.dcmread(
                file,
                stop_before_pixels=not pixels,
                specific_tags=None if tags is None else list(tags),
                force=True,
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
    """Returns the value of a tag, which pydicom parses only now; None if the tag is missing.

    Raises:
        ValueError: the value can't be parsed; names the file.
    """
    try:
        return header.get(name)
    except DAMAGE as error:
        raise ValueError(f"{path}: {name} can't be read ({reason(error)}).") from error


def role(path: os.PathLike[str] | str, header: pydicom.Dataset) -> Role:
    """Returns the role of a file in a CT series, from the `ROLE_TAGS` of its header.

    Raises:
        ValueError: one of the tags can't be read; names the file.
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
    """Returns the file's modality, see `Role`.

    Raises:
        ValueError: the tag can't be read; names the file.
    """
    named = str(value(path, header, "Modality") or "").strip()[:CODE_WIDTH]
    is_ct = value(path, header, "SOPClassUID") in (uid.CTImageStorage, uid.EnhancedCTImageStorage)
    return CT if is_ct and not named else named


def multi_frame(path: os.PathLike[str] | str, frames: float) -> ValueError:
    """Returns the error to raise for a file of several frames, such as an enhanced CT."""
    return ValueError(
        f"{path}: want one slice a file, got a multi-frame file of {frames:g} (an enhanced CT?); "
        "convert it to NIfTI first, for example with dcm2niix."
    )


def require_decoder(path: os.PathLike[str] | str, syntax: uid.UID) -> None:
    """Raises ValueError unless pixels can be decoded; names the packages to install."""
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
    """Returns the first line of pydicom's message, shortened."""
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
        raise ValueError(f"{path}: truncated or damaged (no class, modality or transfer syntax).")
    if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
        raise ValueError(
            f"{path}: its pixels are compressed, but the TransferSyntaxUID (0002,0010), which "
            "would name the compression, is missing."
        )
    is_implicit, is_little = dataset.original_encoding
    explicit = uid.ExplicitVRLittleEndian if is_little else uid.ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if is_implicit else explicit
