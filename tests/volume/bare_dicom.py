"""Writes DICOM files without preamble and file header."""

from pydicom import filewriter, uid


def write(path, dataset, syntax=uid.ExplicitVRLittleEndian):
    """The dataset alone: no preamble, no group 0002."""
    path.write_bytes(content(dataset, syntax))


def content(dataset, syntax):
    implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
    buffer = filewriter.DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
    filewriter.write_dataset(buffer, dataset)
    return buffer.getvalue()
