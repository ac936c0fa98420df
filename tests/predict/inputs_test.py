"""Inputs are found in order under unique names that stay inside the output folder."""

import gzip
import os
import pathlib
import socket
import struct
import unicodedata

import pydicom
import pytest
from absl.testing import parameterized
from pydicom import uid

from jaxlung.predict import formats, inputs
from tests.volume import bare_dicom as bare

PNG = b"\x89PNG\r\n\x1a\n..."
JPEG = b"\xff\xd8\xff\xe0..."
NIFTI = struct.pack("<i", 348) + bytes(340) + b"n+1\0"


def dicom(modality="CT", series="1.5"):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.Modality, dataset.SeriesInstanceUID = modality, series
    return dataset


class InputsTest(parameterized.TestCase):
    @pytest.fixture(autouse=True)
    def in_folder(self, tmp_path):
        self.root = tmp_path / "data"
        self.root.mkdir()

    def write(self, name, content=PNG):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pydicom.Dataset):
            content.save_as(path, enforce_file_format=True)
        else:
            path.write_bytes(content)
        return path

    def find(self, pattern="", **kwargs):
        """Returns names and kinds, in order."""
        items = inputs.find(str(self.root / pattern), **kwargs)
        assert all(isinstance(item.path, pathlib.Path) for item in items)
        return {item.name: item.kind for item in items}

    def assert_found(self, pattern, names, **kwargs):
        assert list(self.find(pattern, **kwargs)) == names


class ContentTest(InputsTest):
    @parameterized.parameters(
        (PNG, "PNG"),
        (JPEG, "JPEG"),
        (b"II*\0....", "TIFF"),
        (b"MM\0*....", "TIFF"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"II*\0" + bytes(124) + b"DICM", "DICOM"),
        (NIFTI, "NIfTI"),
        (gzip.compress(NIFTI), "NIfTI"),
        (struct.pack(">i", 540) + b"n+2\0" + bytes(532), "NIfTI"),
        (gzip.compress(b"no volume"), ""),
        (gzip.compress(NIFTI)[:9] + b"\xff" * 30, ""),
        (NIFTI[:200], ""),
        (b"", ""),
        (b"\x08\0", ""),
        (b"\2\0\0\0UL" + bytes(200), ""),
        (b"\x08\0\x16\0UI\x06\0" + b"1.5.9\0" + bytes(200), ""),
        (b"\x08\0\x16\0UI\x1a\0" + b"1.2.840.10008.5.1.4.1.1.2\0", "DICOM"),
        (b"GIF89a", ""),
    )
    def test_first_bytes_tell_the_format_whatever_the_suffix(self, content, name):
        path = self.write("a.txt", content)
        assert formats.sniff(path) == name
        kind = {"NIfTI": "volume", "": "unknown"}.get(name, "picture")
        assert self.find("a.txt") == {"a.txt": kind}

    def test_files_of_no_known_format_count_if_they_claim_to_be_images(self):
        for name in ("a.txt", "b.csv", "c.json", "README", "d.png", "e.nii.gz", "f.BMP"):
            self.write(name, b"text")
        self.write("g.png")
        want = {"d": "unknown", "e": "unknown", "f": "unknown", "g": "picture"}
        assert self.find() == self.find("*") == want

    def test_what_can_not_be_opened_is_told_in_folders_and_kept_alone(self):
        self.write("a.png")
        os.mkfifo(self.root / "pipe.png")
        (self.root / "gone.png").symlink_to(self.root / "nowhere")
        with socket.socket(socket.AF_UNIX) as one, self.assertLogs("absl", "WARNING") as logs:
            one.bind(os.path.relpath(self.root / "socket.png"))
            assert self.find() == self.find("*") == {"a": "picture"}
        assert len(logs.output) == 2
        for line in logs.output:
            assert all(name in line for name in ("pipe.png", "gone.png", "socket.png"))
        assert self.find("pipe.png") == {"pipe": "unknown"}
        assert self.find("gone.png") == {"gone": "unknown"}


class FolderTest(InputsTest):
    def test_folders_are_read_whole_in_natural_order_without_hidden_files(self):
        for name in ("b/10.png", "b/9.png", "a.png", "B2/x.png", "b10/x.png", ".b/x.png", ".c.png"):
            self.write(name)
        self.assert_found("", ["a", "b/9", "b/10", "B2/x", "b10/x"])

    def test_linked_folders_are_read_and_each_file_once(self):
        self.write("a/x.png")
        self.write("../other/deep/y.png")
        self.write("../other/z.png")
        for link, target in (("b/far", "../other"), ("b/again", "../other/deep"), ("c", "a")):
            (self.root / link).parent.mkdir(exist_ok=True)
            (self.root / link).symlink_to(self.root / target)
        (self.root / "0.png").symlink_to(self.root / "a/x.png")
        (self.root / "w.png").symlink_to(self.root / "../other/z.png")
        got = inputs.find(str(self.root))
        assert sorted(item.path.resolve().name for item in got) == ["x.png", "y.png", "z.png"]
        assert "a/x" in [item.name for item in got]
        assert list(self.find("**/*.png")) == [item.name for item in got]

    def test_links_in_circles_end(self):
        self.write("a/x.png")
        for name in "bcdefgh":
            (self.root / name).symlink_to(self.root)
            (self.root / "a" / name).symlink_to("..")
        for pattern in ("", "**", "**/*.png", "**/**/x.png", "*"):
            self.assert_found(pattern, ["a/x"])

    def test_a_linked_series_is_a_volume(self):
        for k in range(3):
            self.write(f"../archive/ct/{k}", dicom())
            (self.root / "slices").mkdir(exist_ok=True)
            (self.root / f"slices/{k}").symlink_to(self.root / f"../archive/ct/{k}")
        assert self.find() == {"slices": "volume"}
        (self.root / "slices").rename(self.root / "../other")
        (self.root / "series").symlink_to(self.root / "../archive/ct")
        assert self.find() == {"series": "volume"}

    def test_the_output_inside_the_input_is_left_out(self):
        for name in ("x.png", "out/x_mask.png", "out/a/y.png", "outer/z.png"):
            self.write(name)
        for pattern in ("", "**/*.png"):
            self.assert_found(pattern, ["outer/z", "x"], leave_out=self.root / "out")
        self.assert_found("out", ["a/y", "x_mask"], leave_out=self.root)
        with pytest.raises(ValueError, match="is the input; choose another folder"):
            self.find(leave_out=self.root / "out" / "..")

    def test_an_empty_input_is_not_the_current_folder(self):
        for pattern in ("", " "):
            with pytest.raises(ValueError, match=r"INPUT: want .* got an empty path"):
                inputs.find(pattern)

    def test_nothing_there_is_one_sentence(self):
        self.write("notes.txt", b"text")
        for pattern in ("", "*.png", "missing", "missing/*.png", "x" * 300, "x" * 300 + "/*"):
            with pytest.raises(ValueError, match=r"data.*: want a PNG, .* found none\.$"):
                self.find(pattern)


class GlobTest(InputsTest):
    def test_names_start_where_the_pattern_does(self):
        for name in ("a/1/x.png", "a/2/x.png", "b/1/x.png"):
            self.write(name)
        self.assert_found("a/*/x.png", ["1/x", "2/x"])
        self.assert_found("**/1/*", ["a/1/x", "b/1/x"])
        self.assert_found("?", ["a/1/x", "a/2/x", "b/1/x"])

    def test_what_exists_under_the_name_is_no_pattern(self):
        self.write("a[1].png")
        self.write("a1.png")
        self.assert_found("a[1].png", ["a[1]"])
        self.assert_found("a[12].png", ["a1"])


class SeriesTest(InputsTest):
    def test_a_folder_of_slices_is_one_volume(self):
        for k in range(3):
            self.write(f"ct/{k}", dicom())
        self.write("ct/DICOMDIR", dicom("DX"))
        self.write("ct/LICENSE", b"text")
        assert self.find() == {"ct": "volume"}
        assert self.find("ct") == self.find("ct/*") == {"ct": "volume"}
        assert inputs.find(str(self.root / "ct"))[0].path == self.root / "ct"
        assert self.find("ct/1") == {"1": "picture"}

    def test_two_series_stay_one_volume_to_be_refused_as_such(self):
        for k in range(4):
            self.write(f"ct/{k}", dicom(series=f"1.{k % 2 + 1}"))
        assert self.find() == {"ct": "volume"}

    def test_slices_of_as_many_series_and_x_rays_are_pictures(self):
        for k in range(2):
            self.write(f"{k}.dcm", dicom(series=f"1.{k + 1}"))
            self.write(f"x{k}.dcm", dicom("DX"))
        assert self.find() == {name: "picture" for name in ("0", "1", "x0", "x1")}

    def test_slices_without_preamble_are_of_their_series(self):
        for k in range(2):
            self.write(f"ct/{k}", dicom())
        for k, syntax in enumerate((uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian)):
            bare.write(self.root / f"ct/1{k}", dicom(), syntax)
        assert self.find() == {"ct": "volume"}
        (self.root / "ct/0").unlink()
        (self.root / "ct/1").unlink()
        assert self.find() == {"ct": "volume"}

    def test_what_no_network_takes_is_left_out_beside_a_series(self):
        scout, screen = dicom(series="1.7"), dicom(series="1.8")
        scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        screen.SOPClassUID = uid.SecondaryCaptureImageStorage
        beside = dict(scout=scout, screen=screen)
        beside |= {name: dicom(name, f"1.9.{i}") for i, name in enumerate(("RTSTRUCT", "SEG"))}
        for name, dataset in beside.items():
            self.write(f"{name}.dcm", dataset)
        alone = self.find()
        for k in range(2):
            self.write(f"{k}", dicom())
            self.write(f"scouts/{k}", scout)
        assert self.find() == {"data": "volume", "scouts/0": "picture", "scouts/1": "picture"}
        assert alone == {name: "picture" for name in ("RTSTRUCT", "scout", "screen", "SEG")}

    def test_a_damaged_slice_stays_with_its_series(self):
        for k in range(2):
            self.write(f"{k}", dicom())
        self.write("2", dicom("CU"))
        assert self.find() == {"data": "volume"}

    def test_other_files_beside_slices_stand_for_themselves(self):
        for k in range(2):
            self.write(f"{k}.dcm", dicom())
        self.write("scout.dcm", dicom("DX", "1.9"))
        self.write("more/x.png")
        want = {"data": "volume", "more/x": "picture", "scout": "picture"}
        assert self.find() == want


class CsvTest(InputsTest):
    def listed(self, text, encoding="utf-8"):
        self.write("list.csv", text.encode(encoding))
        return self.find("list.csv")

    @parameterized.parameters("path", "image", "Image ", "\ufeffpath")
    def test_rows_are_relative_to_the_csv_and_keep_their_order(self, heading):
        for name in ("b.png", "in/a.png", "ct/1.dcm"):
            self.write(name)
        got = self.listed(f"{heading},patient\nin/a.png,1\nb.png,2\n{self.root}/ct,3\nb.png,4\n")
        assert list(got) == ["in/a", "b", "ct/1"]

    def test_a_name_that_is_too_long_is_a_row_like_others(self):
        self.write("a.png")
        got = self.listed(f"path\na.png\n{'x' * 300}.png\n{'y/' * 3000}b.png\n")
        assert sorted(got.values()) == ["picture", "unknown", "unknown"]

    @parameterized.parameters(
        (unicodedata.normalize("NFD", "m\u00fcller.png").encode(), "m\u00fcller.png"),
        ("m\u00fcller.png".encode(), unicodedata.normalize("NFD", "m\u00fcller.png")),
        (b"m\xfcller.png", "m\u00fcller.png"),
    )
    def test_names_are_found_however_their_letters_are_stored(self, stored, written):
        path = self.root / os.fsdecode(b"f\xfcr") / os.fsdecode(stored)
        path.parent.mkdir()
        path.write_bytes(PNG)
        assert self.find(f"f\u00fcr/{written}") != {}
        self.listed(f"path\nf\u00fcr/{written}\n")
        (item,) = inputs.find(str(self.root / "list.csv"))
        assert (item.kind, item.path) == ("picture", path)

    def test_rows_that_do_not_exist_or_hold_nothing_are_unknown(self):
        (self.root / "empty").mkdir()
        got = self.listed("path\ngone.png\nempty\nlist.csv\n")
        assert got == {"gone": "unknown", "empty": "unknown", "list.csv": "unknown"}

    def test_names_of_files_elsewhere_start_where_all_of_them_do(self):
        self.write("../other/1/x.png")
        self.write("../other/2/x.png")
        got = self.listed("path\n../other/2/x.png\n../other/1/x.png\n")
        assert list(got) == ["2/x", "1/x"]

    @parameterized.parameters(
        ("file\na.png\n", "want a column 'path' or 'image', got 'file'"),
        ("", "want a column 'path' or 'image', got nothing"),
        ("path\n", "want a path in every row, got no rows"),
        ("path,x\na.png,1\n,2\n", ":3: path: want a path, got an empty cell"),
    )
    def test_a_csv_that_can_not_be_used(self, text, match):
        with pytest.raises(ValueError, match=rf"list\.csv.*{match}"):
            self.listed(text)

    def test_another_encoding(self):
        with pytest.raises(ValueError, match=r"list\.csv: can't be read as CSV in UTF-8"):
            self.listed("path\nL\u00fcbeck.png\n", "latin-1")


class NamesTest(InputsTest):
    def test_one_stem_of_several_files_takes_their_suffixes(self):
        for name in ("a.png", "a.JPG", "a_png.png", "b.nii.gz", "b.nii", "c.png"):
            self.write(name, NIFTI if "nii" in name else PNG)
        self.assert_found("", ["a_jpg", "a_png", "a_png_2", "b_nii", "b_nii_gz", "c"])

    def test_only_suffixes_that_are_known_are_left_out(self):
        self.write("1.2.840.113", dicom("DX"))
        self.write("1.2.840.114.dcm", dicom("DX"))
        self.assert_found("", ["1.2.840.113", "1.2.840.114"])

    def test_case_alone_does_not_tell_names_apart(self):
        for name in ("a.jpg", "a.png", "A_PNG.png"):
            self.write(name)
        self.assert_found("", ["a_jpg", "a_png", "A_PNG_2"])

    @parameterized.parameters(
        ('a<b>:"|?*.png', "a_b______"),
        ("back\\..\\slash.png", "back_.._slash"),
        ("line\nfeed\x07.png", "line_feed_"),
        ("...png", "_"),
        (" . dots . .png", "dots"),
        ("CON.png", "CON_"),
        ("nul.v1.png", "nul.v1_"),
        ("consul.png", "consul"),
        (b"caf\xe9.png", "caf_"),
        (unicodedata.normalize("NFD", "L\u00fcbeck.png"), "L\u00fcbeck"),
        ("\u80ba\u90e8.png", "\u80ba\u90e8"),
        ("x" * 250 + ".png", "x" * 150),
    )
    def test_names_hold_nothing_that_a_file_system_gives_a_meaning_to(self, file_name, want):
        path = self.root / os.fsdecode(file_name)
        path.write_bytes(PNG)
        (item,) = inputs.find(str(path))
        assert (item.name, item.path) == (want, path)

    def test_names_stay_below_the_output_whatever_is_named(self):
        output = self.root / "out"
        self.write("a/b/x.png")
        os.symlink(self.root / "a", self.root / "link")
        for pattern in ("", "a/../a", "a/b/../../a/b/x.png", "link", "link/../a/*/x.png"):
            for item in inputs.find(str(self.root / pattern)):
                inside = pathlib.Path(os.path.abspath(output / item.name))
                assert inside.is_relative_to(output)
                assert inside != output
