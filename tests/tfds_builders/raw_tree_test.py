"""Tests of raw downloads with unusual names, circular links, pipes and damaged zips."""

import gzip
import os
import pathlib
import re
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from tfds_builders import png, raw_tree

MIB = 2**20


def fill(folder):
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "1.png").write_bytes(b"one")
    (folder / "2.png").write_bytes(b"two")
    return folder


def contents(tree):
    return {name: tree.read(name) for name in tree.names}


PLAIN = {"2.png": b"two", "a/b/1.png": b"one"}


def test_links_to_itself_and_upwards_are_followed_no_further(tmp_path, caplog):
    folder = fill(tmp_path / "raw")
    for place in (folder, folder / "a", folder / "a" / "b"):
        for name in ("x", "y", "z"):
            (place / name).symlink_to(folder)
    assert contents(raw_tree.open_folder_and_zips(folder)) == PLAIN
    assert "9 links are left out, as their folders are read anyway, first" in caplog.text


def test_a_linked_folder_is_read_once_under_its_own_name_if_it_has_one(tmp_path):
    folder, other = tmp_path / "raw", fill(tmp_path / "other")
    folder.mkdir()
    (folder / "linked").symlink_to(other)
    want = {f"linked/{name}": content for name, content in PLAIN.items()}
    assert contents(raw_tree.open_folder_and_zips(folder)) == want
    fill(folder)
    (folder / "0").symlink_to(folder / "a")  # Comes first in the alphabet.
    assert contents(raw_tree.open_folder_and_zips(folder)) == want | PLAIN
    (tmp_path / "place").symlink_to(folder)
    assert contents(raw_tree.open_folder_and_zips(tmp_path / "place")) == want | PLAIN


def test_without_odd_links_nothing_is_said(tmp_path, caplog):
    raw_tree.open_folder_and_zips(fill(tmp_path))
    assert not caplog.records


def test_names_that_are_not_utf_8_can_be_written_and_read(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / "café.png").write_bytes(b"y")
    (tmp_path / os.fsdecode(b"d\xff")).mkdir()
    with zipfile.ZipFile(tmp_path / os.fsdecode(b"d\xff/z\xfe.zip"), "w") as file:
        file.writestr("1.png", b"z")
    tree = raw_tree.open_folder_and_zips(tmp_path)
    assert {n: tree.read(n) for n in tree.names if n.endswith("png")} == {
        "caf\\xe9.png": b"x",
        "café.png": b"y",
        "d\\xff/z\\xfe.zip/1.png": b"z",
    }
    assert [n.encode() for n in tree.names]


def test_pipes_are_named_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"1\.png is no regular file"):
        raw_tree.open_folder_and_zips(tmp_path).read("1.png")
    os.mkfifo(tmp_path / "2.zip")
    with pytest.raises(ValueError, match=r"2\.zip: want a zip, found no regular file"):
        raw_tree.open_folder_and_zips(tmp_path)
    with pytest.raises(ValueError, match=r"2\.zip: want a zip, found no regular file"):
        raw_tree.find(tmp_path, lambda tree: False, "x")


@pytest.mark.parametrize(("name", "mebibytes"), [("x.png", 128), ("x.nii", 2048), ("x.json", 1024)])
def test_files_that_would_fill_the_memory_are_refused(tmp_path, name, mebibytes):
    """3 GB of zeros: a file with holes, and a packed one whose size is forged to be that."""
    message = rf"{name}: want at most {mebibytes} MiB, got 3072 MiB"
    with open(tmp_path / name, "wb") as file:
        file.truncate(3072 * MIB)
    with pytest.raises(ValueError, match=message):
        raw_tree.open_folder_and_zips(tmp_path).read(name)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(9))
    content = (tmp_path / "a.zip").read_bytes()
    central = content.index(b"PK\1\2")
    content = content[: central + 24] + struct.pack("<I", 3072 * MIB) + content[central + 28 :]
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.zip: {message}"):
        raw_tree.open_zip(tmp_path / "a.zip").read(name)


def test_a_packed_file_larger_than_it_says_is_damaged(tmp_path):
    """So its declared size bounds what is unpacked."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.png", bytes(MIB))
    content = (tmp_path / "a.zip").read_bytes()
    forged = content.replace(struct.pack("<I", MIB), struct.pack("<I", 9))
    assert forged != content
    (tmp_path / "a.zip").write_bytes(forged)
    with pytest.raises(ValueError, match=r"x\.png is damaged in the zip"):
        raw_tree.open_zip(tmp_path / "a.zip").read("x.png")


def test_a_gzip_is_bounded_when_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_tree, "_MAX_OTHER_BYTES", MIB)
    (tmp_path / "x.txt.gz").write_bytes(gzip.compress(bytes(MIB)))
    (tmp_path / "y.txt.gz").write_bytes(gzip.compress(bytes(64 * MIB)))
    tree = raw_tree.open_folder_and_zips(tmp_path)
    assert raw_tree.read_gzip(tree, "x.txt.gz") == bytes(MIB)
    with pytest.raises(ValueError, match=r"y\.txt: want at most 1 MiB"):
        raw_tree.read_gzip(tree, "y.txt.gz")


def change(content, signature, at, value):
    """Sets a byte of every header that begins with `signature`."""
    content, start = bytearray(content), -1
    while (start := content.find(signature, start + 1)) >= 0:
        content[start + at] = value
    return bytes(content)


def with_password(content):
    return change(change(content, b"PK\1\2", 8, 1), b"PK\3\4", 6, 1)


def with_unknown_method(content):
    return change(change(content, b"PK\1\2", 10, 9), b"PK\3\4", 8, 9)


def with_unknown_version(content):
    return change(content, b"PK\1\2", 6, 99)


def with_other_bytes(content):
    start = content.index(b"x.png") + 12
    return content[:start] + bytes([content[start] ^ 255] * 12) + content[start + 12 :]


def with_another_checksum(content):
    return change(change(content, b"PK\1\2", 16, 1), b"PK\3\4", 14, 1)


METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (with_password, r"x\.png has a password; unpack the zip, and name the folder"),
        (with_unknown_method, r"x\.png can't be unpacked here .*; unpack the zip with another"),
        (with_unknown_version, r"not a whole zip|x\.png can't be unpacked here"),
        (with_other_bytes, r"x\.png is damaged in the zip"),
        (with_another_checksum, r"x\.png is damaged in the zip"),
    ],
)
def test_every_fault_of_a_zip_is_one_sentence_with_both_names(tmp_path, method, damage, message):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.png", np.random.default_rng(0).bytes(200))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"a\.zip: ({message})") as caught:
        raw_tree.open_zip(path).read("x.png")
    assert "\n" not in str(caught.value)


def test_every_changed_byte_of_a_zip_is_told_or_harmless(tmp_path):
    """No other error, and no other content, whichever of its bytes is changed."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("d/é.png", b"one" * 30)
    content, told = path.read_bytes(), 0
    for at in range(len(content)):
        for bit in (1, 128):
            path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
            try:
                got = contents(raw_tree.open_zip(path))
            except ValueError as error:
                assert str(path) in str(error)  # noqa: PT017
                told += 1
            else:
                assert set(got.values()) == {b"one" * 30}  # Dates, comments, unused fields.
    assert told > 90


def test_names_in_a_zip_that_leave_it_write_nothing(tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../out.png", "/out.png", "a/../../../out.png"):
            archive.writestr(name, b"x")
    before = sorted(tmp_path.rglob("*"))
    assert set(contents(raw_tree.open_zip(path)).values()) == {b"x"}
    assert sorted(tmp_path.rglob("*")) == before


def png_of(width, height, body):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(body)),
            chunk(b"IEND", b""),
        ]
    )


def test_a_picture_that_would_fill_the_memory_is_named(tmp_path):
    (tmp_path / "x.png").write_bytes(png_of(60_000, 60_000, bytes(99)))
    message = r"x\.png: want at most [\d,]+ pixels, got more"
    with pytest.raises(ValueError, match=message):
        png.decode(raw_tree.open_folder_and_zips(tmp_path), "x.png")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_every_cut_picture_is_decoded_or_named(tmp_path, suffix):
    file = tmp_path / f"x.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9), np.uint8)
    Image.fromarray(pixels).save(file)
    content, told = file.read_bytes(), 0
    for end in range(0, len(content), 3):
        file.write_bytes(content[:end])
        try:
            png.decode(raw_tree.open_folder_and_zips(tmp_path), file.name)
        except ValueError as error:
            told += bool(re.search(rf"x\.{suffix}: can't be decoded", str(error)))
    assert told > len(content) // 6


def test_place_is_a_path_or_text(tmp_path):
    fill(tmp_path)
    for place in (tmp_path, str(tmp_path), pathlib.PurePosixPath(tmp_path)):
        assert contents(raw_tree.find(place, lambda tree: True, "x")) == PLAIN
