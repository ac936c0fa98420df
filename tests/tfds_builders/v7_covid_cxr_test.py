"""Tests of the builder of V7's dataset on phantoms with places and defects of real copies."""

import functools
import gzip
import io
import json
import logging
import pathlib
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl.testing import absltest, parameterized
from matplotlib import path as mpl_path
from PIL import Image

from tests.tfds_builders import builder_case
from tfds_builders.phantoms import v7_covid_cxr
from tfds_builders.v7_covid_cxr import sources, v7_covid_cxr_dataset_builder

_ANNOTATIONS = "releases/all-images/annotations"
_NUM_IMAGES = 40

_prepare = functools.partial(builder_case.prepare, v7_covid_cxr_dataset_builder.Builder)


def _contents(raw: pathlib.Path) -> dict[str, dict]:
    """JSON by number, read without the builder's help."""
    files = (raw / _ANNOTATIONS).glob("*.json")
    return {f.stem: json.loads(f.read_bytes().decode(errors="replace")) for f in files}


def _tags(content: dict) -> set[str]:
    return {item["name"] for item in content["annotations"] if "tag" in item}


def _lungs(content: dict) -> np.ndarray:
    """[H, W] bool by another program: pixel centres within the outlines called Lung."""
    width, height = content["image"]["width"], content["image"]["height"]
    y, x = np.mgrid[:height, :width]
    centres = np.stack([x.ravel(), y.ravel()], 1)
    lungs = np.zeros(height * width, bool)
    for item in content["annotations"]:
        if item["name"] == "Lung":
            ring = [(point["x"], point["y"]) for point in item["polygon"]["path"]]
            lungs |= mpl_path.Path([*ring, ring[0]]).contains_points(centres)
    return lungs.reshape(height, width)


def _image_path(raw: pathlib.Path, number: str, image: dict) -> pathlib.Path:
    stems = (image["filename"], image["original_filename"], f"{number}.*")
    return next(path for stem in stems for path in raw.glob(f"images/{stem}"))


def _zip(files: list[pathlib.Path], path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.write(file, file.name)


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.sum(a & b) / (np.sum(a) + np.sum(b))


class TreeCase(builder_case.BuilderCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.made = pathlib.Path(absltest.get_default_test_tmpdir()) / cls.__name__
        shutil.rmtree(cls.made, ignore_errors=True)
        cls.raw = v7_covid_cxr.write(cls.made / "raw", _NUM_IMAGES, image_size=32)
        cls.builder = _prepare(cls.made / "prepared", cls.raw)
        cls.records = builder_case.records_by_id(cls.builder)
        cls.contents = _contents(cls.raw)


class BuilderTest(TreeCase):
    def test_one_split_with_the_frontal_images_that_have_lungs(self):
        assert list(self.builder.info.splits) == ["full"]
        self.assertLen(self.records, _NUM_IMAGES)
        wanted = {n for n, c in self.contents.items() if not {"CT", "View/L"} & _tags(c)}
        wanted = {n for n in wanted if "View/Lateral" not in _tags(self.contents[n])}
        assert len(wanted) < len(self.contents)
        assert self.records.keys() == wanted

    def test_every_record_holds_the_pixels_of_its_file_and_the_drawn_lungs(self):
        for number, record in self.records.items():
            content = self.contents[number]
            path = _image_path(self.raw, number, content["image"])
            stored = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("L"))
            np.testing.assert_array_equal(record["image"][..., 0], stored)
            mask = record["lung_mask"][..., 0]
            assert set(np.unique(mask)) == {0, 255}
            # 32 pixels: what is drawn on the edge counts, centres strictly within are fewer.
            assert _dice(mask > 0, _lungs(content)) > 0.95, number
            assert (record["native_height"], record["native_width"]) == stored.shape

    def test_every_record_says_what_its_tags_say(self):
        names = self.builder.info.features["label"].names
        assert names == ["other", "COVID-19"]
        for number, record in self.records.items():
            found = _tags(self.contents[number])
            assert names[record["label"]] == ("COVID-19" if "COVID-19" in found else "other")
            finding = set(record["finding"].decode().split(", "))
            assert finding <= found
            assert not {"X-ray", "Survival/Y"} & finding
            for key in ("view", "sex"):
                value = record[key].decode().replace(" ", "_")
                if value:
                    assert f"{key.title()}/{value}" in found
                else:
                    assert not any(tag.startswith(f"{key.title()}/") for tag in found)
            ages = [float(tag.removeprefix("Age:")) for tag in found if tag.startswith("Age:")]
            np.testing.assert_equal(float(record["age_years"]), *(ages or [np.nan]))

    def test_patients_have_several_images_and_one_has_two_numbers(self):
        people = {number: r["patient_id"].decode() for number, r in self.records.items()}
        assert all(people.values())
        assert len(set(people.values())) < len(people)
        numbers = {}
        for number, person in people.items():
            for tag in _tags(self.contents[number]):
                if tag.startswith("PatientID:"):
                    numbers.setdefault(person, set()).add(tag)
        several = [tags for tags in numbers.values() if len(tags) > 1]
        assert several == [{"PatientID:97", "PatientID:178"}]

    def test_prepared_folder_opens_without_the_builder(self):
        self.assert_same_records(tfds.builder_from_directory(self.builder.data_dir))

    def test_left_out_images_are_counted_by_reason_in_one_line(self):
        raw = self.copy()
        path = min((raw / _ANNOTATIONS).glob("9*.json"))
        content = json.loads(path.read_bytes())
        content["annotations"] = [{"name": "Mood/good", "tag": {}}]
        path.write_text(json.dumps(content))
        with self.assertLogs("absl", logging.INFO) as logs:
            builder = _prepare(self.tmp / "data", raw)
        self.assertLen(builder_case.records_by_id(builder), _NUM_IMAGES - 1)
        lines = [line for line in logs.output if "left out" in line]
        self.assertLen(lines, 1)
        assert "39 frontal X-rays with lungs, 6 of them COVID-19" in lines[0]
        assert "left out: 2 CT, 2 not frontal, 1 without lungs" in lines[0]
        self.assertLen([line for line in logs.output if "not used: Mood (1)" in line], 1)


class SizeTest(TreeCase):
    def test_larger_images_shrink_with_their_aspect(self):
        """A factor of 8: every stored pixel is the area of 8 x 8, lung where more than half is."""
        folder = self.tmp / "raw"
        folder.mkdir()
        np_rng = np.random.default_rng(0)
        levels = np_rng.integers(0, 256, (1024, 2048), np.uint8)
        Image.fromarray(levels).save(folder / "1.png")
        corners = np_rng.uniform((0, 0), (2047, 1023), (40, 2)).round()
        lungs = [{"x": x, "y": y} for x, y in corners]
        image = {"width": 2048, "height": 1024, "filename": "1.png", "original_filename": ""}
        annotations = [{"name": "Lung", "polygon": {"path": lungs}}]
        (folder / "1.json").write_text(json.dumps({"image": image, "annotations": annotations}))
        native = builder_case.records_by_id(_prepare(self.tmp / "data", folder))["1"]
        np.testing.assert_array_equal(native["image"][..., 0], levels)
        small = builder_case.records_by_id(_prepare(self.tmp / "data", folder, "256"))["1"]
        assert small["image"].shape == (128, 256, 1)
        blocks = (native["lung_mask"][..., 0] > 0).reshape(128, 8, 256, 8)
        # Sums of the 64 pixels, so that a half is exactly a half.
        want = blocks.sum(axis=(1, 3)) > 32
        np.testing.assert_array_equal(small["lung_mask"][..., 0] > 0, want)
        means = levels.reshape(128, 8, 256, 8).mean(axis=(1, 3))
        got = small["image"][..., 0].astype(np.float64)
        # Antialiased: as calm as the area's mean (noise of 74 / 8), not as single pixels.
        self.assertBetween(got.std(), 0.8 * means.std(), 1.6 * means.std())
        assert np.corrcoef(got.ravel(), means.ravel())[0, 1] > 0.8
        assert (small["native_height"], small["native_width"]) == (1024, 2048)
        large = builder_case.records_by_id(_prepare(self.tmp / "data", folder, "1024"))["1"]
        assert large["image"].shape == large["lung_mask"].shape == (512, 1024, 1)

    def test_smaller_images_are_not_enlarged(self):
        self.assert_same_records(_prepare(self.tmp / "data", self.raw, "512"))

    @parameterized.parameters((0.5, ".png"), (0.77, ".jpg"))
    def test_smaller_copies_of_the_images_take_the_outlines_with_them(self, scale, suffix):
        raw = v7_covid_cxr.write(self.tmp / "raw", 20, image_size=96)
        records = builder_case.records_by_id(_prepare(self.tmp / "whole", raw))
        for path in (raw / "images").glob("[0-9a-zA-Z]*.*[gG]"):
            with Image.open(path) as image:
                size = [round(scale * side) for side in image.size]
                smaller = image.convert("L").resize(size)
            path.unlink()
            smaller.save(path.with_suffix(suffix))
        for number, record in builder_case.records_by_id(_prepare(self.tmp / "data", raw)).items():
            want = records[number]
            assert record["native_width"] == want["native_width"]
            height, width, _ = record["image"].shape
            full = Image.fromarray(want["lung_mask"][..., 0]).resize((width, height))
            got = record["lung_mask"][..., 0] > 0
            assert _dice(got, np.asarray(full) > 127) > 0.95  # By another interpolation.
            assert width == round(scale * want["image"].shape[1])
            assert height == round(scale * want["image"].shape[0])

    def test_another_shape_is_an_error_that_names_both(self):
        raw = self.copy()
        number, content = min(self.contents.items())
        path = _image_path(raw, number, content["image"])
        Image.new("L", (32, 16)).save(path)
        with pytest.raises(ValueError, match=r"want the 32 x .* got 32 x 16") as caught:
            _prepare(self.tmp / "data", raw)
        assert path.name in str(caught.value)
        assert f"{number}.json" in str(caught.value)

    def test_lungs_outside_of_the_image_are_named(self):
        raw = self.copy()
        number = min(self.records)
        path = raw / _ANNOTATIONS / f"{number}.json"
        content = json.loads(path.read_bytes().decode(errors="replace"))
        for item in content["annotations"]:
            for point in item.get("polygon", {"path": []})["path"]:
                point["x"] += 1000
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=rf"{number}\.json: want lungs within 32 x"):
            _prepare(self.tmp / "data", raw)


class PlaceTest(TreeCase):
    def test_flat_folder_with_compressed_annotations(self):
        flat = self.tmp / "flat"
        flat.mkdir()
        for path in (self.raw / "images").iterdir():
            shutil.copy(path, flat)
        for path in (self.raw / _ANNOTATIONS).glob("*.json"):
            (flat / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        self.assert_same_records(_prepare(self.tmp / "data", flat))

    @parameterized.parameters(True, False)
    def test_annotations_packed_as_github_has_them(self, are_images_packed):
        raw = self.tmp / "raw"
        files = sorted((self.raw / _ANNOTATIONS).glob("*.json"))
        _zip(files, raw / "annotations" / "all-images.zip")
        _zip(files[-6:], raw / "annotations" / "covid-only.zip")  # The smaller set is not read.
        if are_images_packed:
            _zip(sorted((self.raw / "images").iterdir()), raw / "images.zip")
        else:
            shutil.copytree(self.raw / "images", raw / "some" / "where")
        self.assert_same_records(_prepare(self.tmp / "data", raw))

    def test_whole_zip_is_read_in_place(self):
        path = self.tmp / "all.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in self.raw.rglob("*.*"):
                archive.write(file, file.relative_to(self.raw).as_posix())
        self.assert_same_records(_prepare(self.tmp / "data", path))

    def test_darwin_json_wins_over_masks_whose_files_are_no_images(self):
        raw = self.copy()
        for folder in ("all-images-semantic-masks", "all-images-instance-png", "thumbnails"):
            (raw / folder).mkdir()
            for number, content in self.contents.items():
                for stem in (number, pathlib.Path(content["image"]["filename"]).stem):
                    Image.new("L", (5, 5), 255).save(raw / folder / f"{stem}.png")
        self.assert_same_records(_prepare(self.tmp / "data", raw))

    def test_semantic_masks_alone_give_the_same_lungs_and_no_tags(self):
        raw = self.tmp / "raw"
        masks = raw / "annotations" / "all-images-semantic-masks"
        masks.mkdir(parents=True)
        (masks / "class_mapping.csv").write_text(
            "class_idx,class_name\n0,__background__\n127,Ignore\n255,Lung\n"
        )
        for number, record in self.records.items():
            Image.fromarray(record["lung_mask"][..., 0]).save(masks / f"{number}.png")
            path = _image_path(self.raw, number, self.contents[number]["image"])
            shutil.copy(path, raw / f"{number}{path.suffix}")
        Image.new("L", (32, 32)).save(masks / "1.png")  # A lateral.
        with self.assertLogs("absl", logging.WARNING) as logs:
            builder = _prepare(self.tmp / "data", raw)
        self.assertLen([line for line in logs.output if "have no tags" in line], 1)
        self.assert_same_records(
            builder, but=("label", "finding", "view", "sex", "age_years", "patient_id")
        )
        records = builder_case.records_by_id(builder).values()
        assert {r["finding"] for r in records} == {b""}
        self.assertLen({r["patient_id"] for r in records}, len(self.records))

    def test_coco_gives_the_same_lungs_and_tags(self):
        raw = self.tmp / "raw"
        shutil.copytree(self.raw / "images", raw / "images")
        tag_names = sorted(set().union(*map(_tags, self.contents.values())))
        images, annotations = [], []
        for number, content in self.contents.items():
            image = content["image"]
            tag_ids = [tag_names.index(tag) for tag in _tags(content)]
            stored = _image_path(self.raw, number, image).name
            images.append({"id": image["seq"], "file_name": stored, "tag_ids": tag_ids})
            images[-1] |= {"darwin_url": image["url"]}
            images[-1] |= {side: image[side] for side in ("width", "height")}
            for item in content["annotations"]:
                if "polygon" in item:
                    flat = [point[axis] for point in item["polygon"]["path"] for axis in "xy"]
                    kind = ["Lung", "Ignore"].index(item["name"])
                    annotations.append({"id": len(annotations), "image_id": image["seq"]})
                    annotations[-1] |= {"category_id": kind, "segmentation": [flat]}
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 0, "name": "Lung"}, {"id": 1, "name": "Ignore"}],
            "tag_categories": [{"id": i, "name": name} for i, name in enumerate(tag_names)],
        }
        (raw / "output.json").write_text(json.dumps(content))
        self.assert_same_records(_prepare(self.tmp / "data", raw), but=("patient_id",))

    def test_what_a_mac_leaves_behind_is_no_annotation(self):
        raw = self.copy()
        (raw / "__MACOSX").mkdir()
        (raw / _ANNOTATIONS / "._1676192.json").write_bytes(b"\0\5\x16\7Mac OS X")
        (raw / "__MACOSX" / "1676192.json").write_bytes(b"\0\5\x16\7Mac OS X")
        self.assert_same_records(_prepare(self.tmp / "data", raw))

    def test_copies_of_an_image_are_fine_unless_they_differ(self):
        raw = self.copy()
        number, content = min(self.contents.items())
        path = _image_path(raw, number, content["image"])
        (raw / "copy").mkdir()
        shutil.copy(path, raw / "copy")
        (raw / "copy" / f"._{path.name}").write_bytes(b"Mac")
        self.assert_same_records(_prepare(self.tmp / "data", raw))
        Image.new("L", (9, 9)).save(raw / "copy" / path.name)
        with pytest.raises(ValueError, match=f"{number}.json: want one image, found copy/"):
            _prepare(self.tmp / "data2", raw)

    def test_two_annotations_of_one_image_are_named(self):
        raw = self.copy()
        folder = raw / _ANNOTATIONS
        first = min(folder.glob("*.json"))
        shutil.copy(first, folder / "zzz.json")
        with pytest.raises(ValueError, match=rf"{first.name} and .*zzz.json are both of image"):
            _prepare(self.tmp / "data", raw)

    def test_annotation_cut_in_half_is_named_and_a_repeat_works(self):
        raw = self.copy()
        path = min((raw / _ANNOTATIONS).glob("*.json"))
        good = path.read_bytes()
        path.write_bytes(good[: len(good) // 2])
        with pytest.raises(ValueError, match=f"{path.name} is not whole JSON"):
            _prepare(self.tmp / "data", raw)
        path.write_bytes(good)
        self.assert_same_records(_prepare(self.tmp / "data", raw))

    def test_missing_images_are_counted_and_none_at_all_is_an_error(self):
        raw = self.copy()
        number, content = min(self.contents.items())
        _image_path(raw, number, content["image"]).unlink()
        with self.assertLogs("absl", logging.INFO) as logs:
            builder = _prepare(self.tmp / "data", raw)
        assert builder_case.records_by_id(builder).keys() == self.records.keys() - {number}
        self.assertLen([line for line in logs.output if "1 without an image file" in line], 1)
        shutil.rmtree(raw / "images")
        with pytest.raises(ValueError, match="none of 40 annotations has its image") as caught:
            _prepare(self.tmp / "data2", raw)
        assert "darwin dataset pull" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_other_places_are_told_apart(self):
        (self.tmp / "empty").mkdir()
        with pytest.raises(ValueError, match=r"empty: want V7's annotations .*found no files"):
            sources.open_tree(self.tmp / "empty")
        with pytest.raises(ValueError, match="nowhere: want a zip or a folder"):
            sources.open_tree(self.tmp / "nowhere")
        builder = v7_covid_cxr_dataset_builder.Builder(
            config="256", data_dir=self.tmp / "data", file_format="array_record"
        )
        manual = tfds.download.DownloadConfig(manual_dir=self.tmp / "manual")
        with pytest.raises(ValueError, match=r"manual does not exist .*darwin dataset pull"):
            builder.download_and_prepare(file_format="array_record", download_config=manual)


if __name__ == "__main__":
    absltest.main()
