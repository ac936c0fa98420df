"""Tests of folders and CSVs of a user's own images, intact and damaged in many ways."""

import csv
import os
import pathlib
import unicodedata

import numpy as np
import pytest
from absl.testing import parameterized
from etils import epath
from PIL import Image

from jaxlung.data import record
from jaxlung.data.sources import folder
from jaxlung.data.splits import splits_file

REALDATA = pathlib.Path(__file__).parents[4] / "shared" / "realdata"
PATHS = ("root", "csv", "negative_roots")
SETTINGS = dict(
    root="",
    csv="",
    csv_image_column="image",
    csv_mask_column="mask",
    csv_patient_column="",
    csv_split_column="",
    mask_suffix="",
    foreground_levels=(),
    target="lung",
    patient_pattern="",
    validation_fraction=0.2,
    test_fraction=0.2,
    fold=0,
    folds=0,
    seed=0,
    negative_roots="",
)


def pixels_of(name):
    """An image and mask that only this name has."""
    np_rng = np.random.default_rng(list(name.encode()))
    shape = tuple(np_rng.integers(5, 20, 2))
    image = np_rng.integers(0, 256, shape, np.uint8)
    return image, np_rng.random(shape) > 0.5


def write_pair(root, name, image_suffix=".png", mask_suffix=".png"):
    for folder_name in ("images", "masks"):
        (root / folder_name).mkdir(parents=True, exist_ok=True)
    image, mask = pixels_of(name)
    Image.fromarray(image).save(root / "images" / (name + image_suffix))
    Image.fromarray(mask).save(root / "masks" / (name + mask_suffix))


def open_splits(**changes):
    return folder.open_splits(
        **SETTINGS
        | {k: str(v) if k in ("root", "csv", "negative_roots") else v for k, v in changes.items()}
    )


def examples_of(splits):
    return [example for source in splits.values() for example in source.examples]


def patients_of(splits):
    return {name: {e.patient_id for e in source.examples} for name, source in splits.items()}


class FolderTest(parameterized.TestCase):
    @pytest.fixture(autouse=True)
    def in_folder(self, tmp_path):
        self.root = tmp_path / "mine"
        for i in range(10):
            write_pair(self.root, f"p{i // 2}_view{i % 2}")

    def write_csv(self, *rows, name="table.csv", encoding="utf-8"):
        path = self.root / name
        path.write_text("\n".join(rows) + "\n", encoding=encoding)
        return path

    def refuses(self, message, error=ValueError, **changes):
        with pytest.raises(error, match=message) as caught:
            open_splits(**{"root": self.root} | changes)
        assert "\n" not in str(caught.value)

    def image(self, name):
        return self.root / "images" / name

    def mask(self, name):
        return self.root / "masks" / name


class TreeTest(FolderTest):
    @parameterized.parameters(("lung", record.LUNG), ("infection", record.INFECTION))
    def test_records_are_what_was_written(self, target, bit):
        splits = open_splits(root=self.root, target=target)
        assert list(splits) == ["train", "validation", "test"]
        assert [len(source) for source in splits.values()] == [6, 2, 2]
        for source in splits.values():
            for i in range(len(source)):
                item = source[i]
                image, mask = pixels_of(pathlib.Path(item.image_id).stem)
                np.testing.assert_array_equal(item.image, image)
                np.testing.assert_array_equal(item.mask, mask * np.uint8(bit))
                assert item.mask.dtype == np.uint8
                assert item.patient_id == item.image_id
                assert item.group == ""
        ids = sorted(example.image_id for example in examples_of(splits))
        assert ids == [f"images/p{i // 2}_view{i % 2}.png" for i in range(10)]

    def test_masks_have_a_suffix_and_files_any_ending(self):
        for path in (self.root / "masks").iterdir():
            path.rename(path.with_stem(path.stem + "_mask"))
        write_pair(self.root, "photo", ".JPEG", "_mask.PNG")
        splits = open_splits(root=self.root, mask_suffix="_mask")
        pairs = {e.image_path.name: e.mask_path.name for e in examples_of(splits)}
        assert pairs["photo.JPEG"] == "photo_mask.PNG"
        assert len(pairs) == 11

    def test_a_pattern_keeps_patients_together(self):
        splits = open_splits(root=self.root, patient_pattern=r"^(p\d)_")
        patients = patients_of(splits)
        assert [len(ids) for ids in patients.values()] == [3, 1, 1]
        assert set.union(*patients.values()) == {f"p{i}" for i in range(5)}
        assert [len(source) for source in splits.values()] == [6, 2, 2]

    def test_folds_test_every_patient_once_with_a_share_of_each_root(self):
        other = self.root.parent / "second"
        for number in range(15):
            write_pair(other, f"q{number}_view0")
        folds = [
            open_splits(
                root=f"{self.root},{other}", patient_pattern=r"^(\w\d+)_", fold=fold, folds=5
            )
            for fold in range(5)
        ]
        tested = [example for splits in folds for example in splits["test"].examples]
        assert len(tested) == len({example.image_id for example in tested}) == 25
        for splits in folds:
            patients = patients_of(splits)
            assert not patients["test"] & (patients["train"] | patients["validation"])
            groups = [example.group for example in splits["test"].examples]
            # Of five patients with two images each, and of fifteen with one.
            assert (groups.count("mine"), groups.count("second")) == (2, 3)
            assert len(splits["validation"]) == 5
            assert sum(map(len, splits.values())) == 25

    def test_patients_of_two_images_are_shared_out_though_no_split_has_an_odd_number(self):
        root = self.root.parent / "pairs"
        for number in range(7):
            for view in range(2):
                write_pair(root, f"p{number}_view{view}")
        folds = [
            open_splits(root=root, patient_pattern=r"^(p\d+)_", fold=fold, folds=3)
            for fold in range(3)
        ]
        tested = [example.image_id for splits in folds for example in splits["test"].examples]
        assert len(tested) == len(set(tested)) == 14
        assert sorted(len(splits["test"]) for splits in folds) == [4, 4, 6]
        for splits in folds:
            assert len(splits["validation"]) == 2  # One of seven patients: 20 % of them.
            assert len(set.union(*patients_of(splits).values())) == 7

    def test_folds_that_can_not_be_are_told(self):
        with pytest.raises(ValueError, match=r"data.fold: got 5 of 5 folds"):
            open_splits(root=self.root, fold=5, folds=5)
        with pytest.raises(ValueError, match=r"data.folds: got 11, want no more than"):
            open_splits(root=self.root, folds=11)

    def test_roots_of_one_name_are_told_apart(self):
        other = self.root.parent / "elsewhere" / "mine"
        write_pair(other, "p0_view0")
        splits = open_splits(root=f"{self.root}, {other}")
        named = {example.image_id: example.group for example in examples_of(splits)}
        assert named["mine/images/p0_view0.png"] == "mine"
        assert named["elsewhere/mine/images/p0_view0.png"] == "elsewhere/mine"
        assert len(named) == 11

    def test_hidden_files_are_nothing_and_others_are_reported(self):
        self.image(".DS_Store").write_bytes(b"")
        self.image("notes.txt").write_text("")
        self.image("old").mkdir()
        with self.assertLogs(level="WARNING") as logs:
            splits = open_splits(root=self.root)
        assert len(examples_of(splits)) == 10
        assert "2 not PNG or JPEG (subfolders are not read), ignored" in logs.output[0]

    def test_missing_folders_are_named(self):
        self.refuses("root .*/nowhere: no such folder", FileNotFoundError, root="/nowhere")
        self.refuses("images: no such folder", FileNotFoundError, root=self.root.parent)
        self.refuses("mine: named twice", root=f"{self.root},{self.root}/../mine")
        self.refuses(
            r"want a folder with images/ and masks/ .* or a CSV file .*, got neither", root=" "
        )

    def test_an_empty_folder_is_named(self):
        for path in (*self.image("").iterdir(), *self.mask("").iterdir()):
            path.unlink()
        self.refuses("images: want PNG or JPEG files, got none")

    def test_an_image_without_mask_is_named(self):
        self.mask("p1_view1.png").unlink()
        self.refuses(r"images/p1_view1\.png: no mask; want .*masks/p1_view1\.png or")

    def test_a_mask_without_image_is_named(self):
        self.image("p1_view1.png").unlink()
        self.refuses(r"masks/p1_view1\.png: a mask with no image")

    def test_two_images_of_one_name_are_named(self):
        Image.fromarray(pixels_of("x")[0]).save(self.image("p1_view1.jpg"))
        self.refuses(r"p1_view1\.png: has the same name as p1_view1\.jpg")

    @parameterized.parameters(
        ("(", r"patient_pattern: got '\(', want a regular expression \(missing \)"),
        (r"^p\d", "want a group"),
        (r"^q(\d)", r"images/p0_view0\.png: patient_pattern .* finds no patient"),
        (r"^p(x?)", "finds no patient"),
    )
    def test_bad_patterns_are_named(self, pattern, message):
        self.refuses(message, patient_pattern=pattern)


class NameTest(FolderTest):
    def rename(self, path, name):
        os.rename(os.fsencode(path), os.path.join(os.fsencode(path.parent), name))

    def test_accents_match_however_they_are_composed(self):
        composed, apart = (unicodedata.normalize(form, "mü_1.png") for form in ("NFC", "NFD"))
        self.rename(self.image("p1_view1.png"), composed.encode())
        self.rename(self.mask("p1_view1.png"), apart.encode())
        (example,) = (e for e in examples_of(open_splits(root=self.root)) if "_1.png" in e.image_id)
        assert example.image_id == f"images/{composed}"
        assert example.mask_path.name == apart
        path = self.write_csv("image,mask", f"images/{apart},masks/{composed}", *self.others())
        ids = {e.image_id: e for e in examples_of(open_splits(csv=path))}
        assert ids[f"images/{composed}"].mask_path == example.mask_path

    def others(self):
        names = [path.name for path in self.image("").iterdir() if path.name.startswith("p")]
        return [f"images/{name},masks/{name}" for name in names]

    def test_one_person_is_one_however_the_name_is_composed(self):
        rows = [
            f"images/p{i}_view{j}.png,masks/p{i}_view{j}.png,"
            + unicodedata.normalize("NFC" if j else "NFD", f"mü{i}")
            for i in range(5)
            for j in range(2)
        ]
        path = self.write_csv("image,mask,who", *rows)
        patients = patients_of(open_splits(csv=path, csv_patient_column="who"))
        assert sum(map(len, patients.values())) == 5

    @parameterized.parameters("images", "masks")
    def test_a_name_that_is_no_text_is_named_printably(self, folder_name):
        self.rename(self.root / folder_name / "p1_view1.png", b"m\xfcller.png")
        self.refuses(rf"^b'.*/{folder_name}/m\\xfcller\.png': want a name in UTF-8; rename it\.")

    def test_a_root_that_is_no_text_is_named(self):
        self.rename(self.root, b"m\xfcller")
        self.refuses("xfcller': want a name in UTF-8", root=self.root.parent / "m\udcfcller")

    @parameterized.parameters("images", "masks")
    def test_a_pipe_is_named_and_not_waited_for(self, folder_name):
        path = self.root / folder_name / "p1_view1.png"
        path.unlink()
        os.mkfifo(path)
        self.refuses(rf"{folder_name}/p1_view1\.png: want a file, got a pipe")
        path = self.write_csv("image,mask", *self.others())
        self.refuses(r"table\.csv:\d+: .*p1_view1\.png: want a file, got", csv=path, root="")


class NegativeRootsTest(FolderTest):
    def test_groups_are_those_of_the_roots(self):
        other = self.root.parent / "other"
        write_pair(other, "a")
        both = f"{self.root},{other}"
        assert folder.negative_groups(both, "", "") == set()
        assert folder.negative_groups(both, "", f"{other}/") == {"other"}
        assert folder.negative_groups(str(other), "", str(other)) == {""}

    def test_another_folder_is_refused(self):
        self.refuses(
            r"negative_roots .*: want folders of data\.root", negative_roots=self.root.parent
        )


class ContentTest(FolderTest):
    def test_a_mask_of_another_size_is_named_at_once(self):
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(self.mask("p2_view0.png"))
        height, width = pixels_of("p2_view0")[0].shape
        self.refuses(
            rf"masks/p2_view0\.png: want the size of .*/images/p2_view0\.png,"
            rf" {height} x {width} .*got 3 x 4"
        )

    def test_a_photo_stored_on_its_side_fits_its_mask(self):
        image, mask = np.zeros((8, 24), np.uint8), np.ones((24, 8), np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(image).save(self.image("side.jpg"), exif=exif)
        Image.fromarray(mask).save(self.mask("side.png"))
        splits = open_splits(root=self.root)
        (source,) = (s for s in splits.values() if "side" in str(s.examples))
        (index,) = (i for i, e in enumerate(source.examples) if "side" in e.image_id)
        assert source[index].image.shape == source[index].mask.shape == (24, 8)

    def test_a_png_that_turns_out_to_lie_on_its_side_is_named_when_decoded(self):
        splits = open_splits(root=self.root)
        example = splits["train"].examples[0]
        Image.fromarray(np.zeros((50, 60), np.uint8)).save(example.mask_path)
        with pytest.raises(ValueError, match=r"want the size of .*got 50 x 60"):
            splits["train"][0]

    def test_a_file_without_header_is_named_at_once(self):
        self.image("p2_view0.png").write_bytes(b"not an image")
        self.refuses(r"images/p2_view0\.png: can't be decoded as PNG or JPEG")

    def test_a_truncated_file_is_named_when_read(self):
        path = open_splits(root=self.root)["test"].examples[0].image_path
        path.write_bytes(path.read_bytes()[:-30])
        source = open_splits(root=self.root)["test"]
        with pytest.raises(ValueError, match=rf"{path.name}: can't be decoded"):
            source[0]

    def test_levels_reach_the_mask(self):
        for path in self.mask("").iterdir():
            shape = np.asarray(Image.open(path)).shape
            Image.fromarray(np.resize(np.array([0, 1, 2], np.uint8), shape)).save(path)
        item = open_splits(root=self.root, foreground_levels=(2,), target="infection")["train"][0]
        want = np.resize([0, 0, record.INFECTION], item.mask.shape)
        np.testing.assert_array_equal(item.mask, want)

    def test_levels_of_a_jpeg_are_refused_at_once(self):
        write_pair(self.root, "photo", ".png", ".jpg")
        self.refuses(r"photo\.jpg: foreground_levels \(255,\) need a PNG", foreground_levels=(255,))

    @parameterized.parameters(
        (dict(target="heart"), "target: want one of lung, infection, got 'heart'"),
        (dict(foreground_levels=(-1,)), r"whole numbers from 0 to 65535, got \(-1,\)"),
        (dict(foreground_levels=(1, "a")), r"whole numbers from 0 to 65535, got \(1, 'a'\)"),
        (dict(foreground_levels=(True,)), r"whole numbers from 0 to 65535, got \(True,\)"),
        (dict(foreground_levels=(0.5,)), r"whole numbers from 0 to 65535, got \(0.5,\)"),
    )
    def test_bad_settings_are_named(self, changes, message):
        self.refuses(message, **changes)


class CsvTest(FolderTest):
    def rows(self, *more):
        names = [path.name for path in sorted(self.image("").iterdir())]
        return [f"images/{n},masks/{n},{n[:2]}{''.join(more)}" for n in names]

    def test_columns_have_any_name_and_patients_stay_together(self):
        path = self.write_csv("Datei,Maske,Person", *self.rows(), encoding="utf-8-sig")
        splits = open_splits(
            csv=path,
            csv_image_column="Datei",
            csv_mask_column="Maske",
            csv_patient_column="Person",
        )
        assert [len(source) for source in splits.values()] == [6, 2, 2]
        patients = patients_of(splits)
        assert sum(map(len, patients.values())) == 5
        item = splits["test"][0]
        assert item.image_id.startswith("images/p")
        np.testing.assert_array_equal(item.image, pixels_of(pathlib.Path(item.image_id).stem)[0])

    def test_a_root_keeps_its_own_rows(self):
        other = self.root.parent / "other"
        for name in "abc":
            write_pair(other, name)
        rows = [f"../other/images/{n}.png,{other}/masks/{n}.png,{n}" for n in "abc"]
        # Rows elsewhere may lack a mask, or be no images at all.
        path = self.write_csv("image,mask,patient", *self.rows(), *rows, "../ct.nii.gz,,q")
        splits = open_splits(csv=path, root=other, csv_patient_column="patient")
        assert sorted(e.image_id for e in examples_of(splits)) == [f"images/{n}.png" for n in "abc"]
        both = open_splits(csv=path, root=f"{self.root},{other}", csv_patient_column="patient")
        assert {e.group for e in examples_of(both)} == {"mine", "other"}

    def test_without_a_column_the_pattern_says_who(self):
        path = self.write_csv("image,mask,patient", *self.rows())
        splits = open_splits(csv=path, patient_pattern=r"^(p\d)_")
        assert set.union(*patients_of(splits).values()) == {f"p{i}" for i in range(5)}

    def test_columns_of_patients_and_splits_are_not_passed_over_silently(self):
        path = self.write_csv("image,mask,Patient_ID,split", *self.rows(",train"))
        with self.assertLogs("absl", "WARNING") as logged:
            open_splits(csv=path)
        told = "\n".join(logged.output)
        assert "table.csv: the column 'Patient_ID' isn't read" in told
        assert "--config.data.csv_patient_column=Patient_ID" in told
        assert "--config.data.csv_split_column=split" in told
        path = self.write_csv("image,mask,Patient_ID", *self.rows())
        with self.assertNoLogs("absl", "WARNING"):
            open_splits(csv=path, csv_patient_column="Patient_ID")

    def test_an_empty_patient_is_a_patient_of_its_own(self):
        rows = [row.rsplit(",", 1)[0] + "," for row in self.rows()]
        path = self.write_csv("image,mask,patient", *rows)
        splits = open_splits(csv=path, csv_patient_column="patient")
        assert all(e.patient_id == e.image_id for e in examples_of(splits))

    def test_given_splits_are_kept(self):
        names = dict(p0="train", p1="Validation", p2="test", p3="val", p4=" TRAIN ")
        rows = [f"{row},{names[row[-2:]]}" for row in self.rows()]
        path = self.write_csv("image,mask,patient,split", *rows)
        splits = open_splits(
            csv=path,
            csv_patient_column="patient",
            csv_split_column="split",
            validation_fraction=0.0,
        )
        want = {"train": {"p0", "p4"}, "validation": {"p1", "p3"}, "test": {"p2"}}
        assert patients_of(splits) == want

    def test_a_patient_in_two_splits_is_named(self):
        rows = self.rows(",train")
        rows[1] = rows[1].replace("train", "test")
        path = self.write_csv("image,mask,patient,split", *rows)
        self.refuses(
            "table.csv: patient 'p0' is in two splits, train and test",
            csv=path,
            csv_patient_column="patient",
            csv_split_column="split",
        )

    def test_an_empty_split_is_named(self):
        path = self.write_csv("image,mask,patient,split", *self.rows(",train"))
        self.refuses("split validation is empty", csv=path, csv_split_column="split")

    def test_another_split_is_named_with_its_line(self):
        path = self.write_csv("image,mask,patient,split", *self.rows(",dev"))
        self.refuses(
            r"table\.csv:2: want train, validation, test or val in column 'split', got 'dev'",
            csv=path,
            csv_split_column="split",
        )

    def test_missing_columns_are_named(self):
        path = self.write_csv("image,maske,patient", *self.rows())
        self.refuses(
            "no column 'mask' for csv_mask_column, got 'image' and 'maske' and 'patient'", csv=path
        )
        self.refuses(
            "no column 'who' for csv_patient_column",
            csv=path,
            csv_mask_column="maske",
            csv_patient_column="who",
        )
        self.refuses("no column '' for csv_image_column", csv=path, csv_image_column="")
        self.refuses("no column 'image'", csv=self.write_csv("", name="empty.csv"))

    def test_bad_rows_are_named_with_their_line(self):
        heading, rows = "image,mask,patient", self.rows()
        first = rows[0].split(",")
        for bad, error, message in (
            (f"{first[0]},,p0", ValueError, r":12: nothing in column 'mask'"),
            ("images/none.png", FileNotFoundError, r":12: .*images/none\.png: no such file"),
            (f",{first[1]},p0", ValueError, r":12: nothing in column 'image'"),
            (rows[0], ValueError, r":12: .*p0_view0\.png is named a second time"),
        ):
            path = self.write_csv(heading, *rows, bad)
            self.refuses(message, error, csv=path, root="")

    def test_a_csv_that_is_none_is_named(self):
        self.refuses("csv .*/no.csv: no such file", FileNotFoundError, csv="/no.csv")
        self.refuses("can't be read as CSV in UTF-8", csv=self.image("p0_view0.png"))
        path = self.write_csv("image,mask,patient", *self.rows())
        (self.root / "empty").mkdir()
        self.refuses("no row names an image in .*/mine/empty", csv=path, root=self.root / "empty")


class WriteSplitsTest(FolderTest):
    def test_the_file_says_who_is_where_and_can_be_given_back(self):
        splits = open_splits(root=self.root, patient_pattern=r"^(p\d)_")
        splits_file.write(epath.Path(self.root / "splits.csv"), splits)
        with (self.root / "splits.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 10
        for row in rows:
            assert row["patient_id"] in patients_of(splits)[row["split"]]
            assert row["image_id"].startswith(f"images/{row['patient_id']}")
        assert not list(self.root.glob("*.tmp"))


@pytest.mark.skipif(not REALDATA.is_dir(), reason="the real sample is not here")
class RealTest(parameterized.TestCase):
    def test_two_sets_of_x_rays_split_by_patient(self):
        roots = [REALDATA / name for name in ("xray_lung_v7", "xray_lung_kermany_v7")]
        splits = open_splits(
            root=",".join(map(str, roots)),
            csv=REALDATA / "MANIFEST.csv",
            csv_image_column="file",
            csv_patient_column="patientid",
            validation_fraction=0.1,
            test_fraction=0.1,
        )
        assert len(examples_of(splits)) == 399
        patients = patients_of(splits)
        assert [len(ids) for ids in patients.values()] == [251, 31, 31]
        assert len(set.union(*patients.values())) == 313
        for source in splits.values():
            item = source[0]
            assert item.image.shape == item.mask.shape
            assert 0.05 < np.mean(item.mask == record.LUNG) < 0.6

    def test_infection_levels_are_asked_for_and_read(self):
        settings = dict(root=REALDATA / "xray_infection_gb", target="infection")
        splits = open_splits(**settings)
        with pytest.raises(ValueError, match="levels 0,1,2"):
            [source[i] for source in splits.values() for i in range(len(source))]
        item = open_splits(**settings, foreground_levels=(1, 2))["train"][0]
        assert set(np.unique(item.mask)) == {0, record.INFECTION}
