"""V7's annotation formats agree with each other, with drawing by hand, and with real files."""

import gzip
import io
import json
import math
import pathlib

import numpy as np
import pytest
from absl.testing import absltest, parameterized
from matplotlib import path as mpl_path
from PIL import Image

from tfds_builders import raw_tree
from tfds_builders.v7_covid_cxr import annotation, layout, pixels, semantic, sources, tags

_REAL = pathlib.Path(__file__).parents[2] / ".." / "shared" / "realdata"
_OUTER = [(4, 4), (27, 4), (27, 35), (4, 35)]  # x and y
_HOLE = [(10, 10), (20, 10), (20, 25), (10, 25)]
_TRIANGLE = [(30.5, 2.25), (38.0, 20.0), (29.75, 33.5)]


def _points(ring):
    return [{"x": x, "y": y} for x, y in ring]


def _darwin_1(annotations, **image):
    image = {
        "width": 40,
        "height": 38,
        "filename": "00000007.jpg",
        "original_filename": "chest.PNG",
        "url": "https://darwin.v7labs.com/api/images/1676192/original?token=x",
    } | image
    return {"image": image, "dataset": "x", "annotated": True, "annotations": annotations}


def _darwin_2(annotations):
    source = {
        "file_name": "chest.PNG",
        "url": "https://darwin.v7labs.com/api/images/1676192/original?token=x",
    }
    slot = {"slot_name": "0", "width": 40, "height": 38, "source_files": [source]}
    item = {"name": "00000007.jpg", "path": "/", "slots": [slot]}
    return {"version": "2.0", "item": item, "annotations": annotations}


def _coco(segmentations, **changes):
    image = {"file_name": "00000007.jpg", "width": 40, "height": 38, "id": 7, "tag_ids": [3]}
    image["darwin_url"] = "https://darwin.v7labs.com/api/images/1676192/original?token=x"
    return {
        "images": [image],
        "categories": [{"id": 0, "name": "Lung"}, {"id": 1, "name": "Ignore"}],
        "tag_categories": [{"id": 3, "name": "COVID-19"}],
        "annotations": [
            {"id": i, "image_id": 7, "category_id": kind, "segmentation": segmentation}
            for i, (kind, segmentation) in enumerate(segmentations)
        ],
    } | changes


def _contains(ring):
    """[38, 40] bool, by another program: which pixel centres the ring encloses."""
    y, x = np.mgrid[:38, :40]
    closed = np.concatenate([ring, ring[:1]])
    inside = mpl_path.Path(closed).contains_points(np.stack([x.ravel(), y.ravel()], 1))
    return inside.reshape(38, 40)


def _near(ring):
    """[38, 40] bool, the pixels on both sides of the ring."""
    near = np.zeros((38, 40), bool)
    for start, end in zip(ring, ring[1:] + ring[:1], strict=True):
        for x, y in np.linspace(start, end, 500):
            near[math.floor(y) : math.ceil(y) + 1, math.floor(x) : math.ceil(x) + 1] = True
    return near


def _dice(a, b):
    return 2 * np.sum(a & b) / (np.sum(a) + np.sum(b))


class FormatTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def read(self, content, name="x.json"):
        """The only annotation of a folder with one file."""
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        (self.folder / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
        (found,) = sources.read_annotations(raw_tree.open_folder_and_zips(self.folder))
        return found

    def _assert_lungs(self, item, wanted):
        got = np.asarray(pixels.draw(item.lungs, item.size)) > 0
        # Pixels that an outline runs through may fall on either side.
        edge = _near(_OUTER) | _near(_HOLE) | _near(_TRIANGLE)
        np.testing.assert_array_equal(got[~edge], wanted[~edge])
        assert _dice(got, wanted) > 0.9

    @parameterized.parameters("x.json", "x.json.gz")
    def test_darwin_1_lungs_are_joined_and_ignore_is_neither_painted_nor_cut_out(self, name):
        content = _darwin_1(
            [
                {"name": "Lung", "polygon": {"path": _points(_OUTER)}},
                {"name": "COVID-19", "tag": {}},
                {"name": "Lung", "polygon": {"path": _points(_TRIANGLE)}},
                {"name": "Ignore", "polygon": {"path": _points(_HOLE)}},
                {"name": "Ignore", "polygon": {"path": _points([(0, 36), (9, 36), (9, 37)])}},
            ]
        )
        item = self.read(content, name)
        self._assert_lungs(item, _contains(_OUTER) | _contains(_TRIANGLE))
        assert item.image_id == "1676192"
        assert item.file_names == ("00000007.jpg", "chest.PNG")
        assert item.size == (40, 38)
        assert item.tags == ("COVID-19",)

    @parameterized.parameters("complex_polygon", "paths")
    def test_rings_within_rings_are_holes(self, kind):
        rings = [_points(_OUTER), _points(_HOLE)]
        content = _darwin_1([{"name": "Lung", "complex_polygon": {"path": rings}}])
        if kind == "paths":
            content = _darwin_2([{"name": "Lung", "polygon": {"paths": rings}}])
        self._assert_lungs(self.read(content), _contains(_OUTER) & ~_contains(_HOLE))

    def test_darwin_2_and_coco_say_the_same_as_darwin_1(self):
        rings = [_OUTER, _TRIANGLE]
        first, *others = (
            self.read(_darwin_1([{"name": "COVID-19", "tag": {}}, *self._lungs("path", rings)])),
            self.read(_darwin_2([*self._lungs("paths", rings), {"name": "COVID-19", "tag": {}}])),
            self.read(
                _coco(
                    [
                        (0, [np.ravel(_OUTER).tolist()]),
                        (0, [np.ravel(_TRIANGLE).tolist()]),
                        (1, [np.ravel(_HOLE).tolist()]),
                        (1, {"counts": [1], "size": [38, 40]}),
                    ]
                )
            ),
        )
        for other in others:
            assert other.image_id == first.image_id
            assert other.size == first.size
            assert other.tags == first.tags
            assert other.file_names[0] == first.file_names[0]
            self._assert_lungs(other, _contains(_OUTER) | _contains(_TRIANGLE))

    def _lungs(self, kind, rings):
        for ring in rings:
            points = _points(ring)
            yield {"name": "Lung", "polygon": {kind: [points] if kind == "paths" else points}}

    def test_file_names_give_the_number_where_there_is_no_address(self):
        content = _darwin_1([], url=None)
        assert self.read(content, "00000123.json.gz").image_id == "00000123"

    def test_bytes_that_are_not_utf8_are_replaced(self):
        content = json.dumps(_darwin_1([{"name": "location:Universit?rio", "tag": {}}])).encode()
        item = self.read(content.replace(b"?rio", b"\xe1rio"))
        assert item.tags == ("location:Universit\ufffdrio",)

    @parameterized.parameters(
        (json.dumps(_darwin_1([])).encode()[:90], "x.json is not whole JSON"),
        (_darwin_1([], width="40"), "x.json: want width and height in pixels, got '40' and 38"),
        (_darwin_1([{"name": "Heart", "polygon": {"path": []}}]), "Lung or Ignore, got 'Heart'"),
        (_darwin_1([{"name": "Lung", "bounding_box": {}}]), "x.json .*no 'complex_polygon'"),
        (_darwin_1([{"name": "Lung", "polygon": {"path": [{"x": 1}]}}]), "x.json .*no 'y'"),
        (
            _darwin_1([{"name": "Lung", "polygon": {"path": _points([(1, math.nan)])}}]),
            "x.json: want finite coordinates",
        ),
        (_darwin_1([{"name": "Lung", "polygon": {"path": _points([(1, "2")])}}]), "x.json is not"),
        ({"image": {}, "annotations": []}, "x.json is not Darwin JSON .no 'filename'"),
        (_coco([(0, {"counts": [1]})]), "x.json: want polygons"),
        (_coco([(0, [[1, 2, 3]])]), "x.json: "),
        (_coco([], categories=[]) | {"annotations": [{"category_id": 5}]}, "COCO JSON .no 5"),
        ({"something": "else"}, "found other JSON files only"),
    )
    def test_damage_is_named(self, content, message):
        with pytest.raises(ValueError, match=message) as caught:
            self.read(content)
        self.assertStartsWith(str(caught.value), str(self.folder))
        assert "\n" not in str(caught.value)

    def test_gzip_cut_short_is_named(self):
        (self.folder / "x.json.gz").write_bytes(gzip.compress(b"{}" * 99)[:-9])
        with pytest.raises(ValueError, match=r"x\.json\.gz is damaged"):
            sources.read_annotations(raw_tree.open_folder_and_zips(self.folder))

    def test_two_points_enclose_nothing(self):
        content = _darwin_1([{"name": "Lung", "polygon": {"path": _points(_OUTER[:2])}}])
        assert not self.read(content).has_lungs


class SemanticTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path) / "all-images-semantic-masks"
        self.folder.mkdir()
        levels = np.zeros((6, 5), np.uint8)
        levels[1:4, 1:3], levels[2, 2] = 255, 127
        Image.fromarray(levels).save(self.folder / "7.png")
        Image.fromarray(np.minimum(levels, 127)).save(self.folder / "8.png")
        (self.folder / ".class_mapping.csv.swp").write_bytes(b"b0VIM")
        self.levels = levels

    def read(self, mapping=None):
        if mapping:
            (self.folder / semantic.MAPPING).write_text(mapping)
        with self.assertLogs("absl", "WARNING") as logs:
            tree = raw_tree.open_folder_and_zips(self.folder.parent)
            items = {item.image_id: item for item in sources.read_annotations(tree)}
        self.assertLen([line for line in logs.output if "no tags" in line], 1)
        return tree, items

    @parameterized.parameters("", "class_idx,class_name\n0,__background__\n127,Ignore\n255,Lung\n")
    def test_only_the_level_of_lung_is_lung(self, mapping):
        Image.new("L", (5, 6), 90).save(self.folder.parent / "7.jpeg")
        tree, items = self.read(mapping)
        assert items["7"].has_lungs
        assert not items["8"].has_lungs
        (sample,) = layout.find_samples(tree)
        assert sample.image == "7.jpeg"
        got = pixels.load(tree, sample, None)["lung_mask"]
        want = np.where(self.levels == 255, 255, 0)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(got))), want)

    def test_levels_are_those_of_the_mapping(self):
        _, items = self.read("class_idx,class_name\n0,__background__\n127,Lung\n255,Ignore\n")
        assert items["8"].has_lungs
        assert items["8"].lung_level == 127

    @parameterized.parameters(
        ("class_idx,class_name\n0,__background__\n255,Lung\n", r"7\.png: want .* 0, 255, got 127"),
        ("class_idx,class_name\n255,Heart\n", r"class_mapping\.csv: want classes .*got Heart"),
        ("a,b\n1,2\n", r"class_mapping\.csv: want class_idx"),
    )
    def test_unknown_levels_and_classes_are_named(self, mapping, message):
        with pytest.raises(ValueError, match=message):
            self.read(mapping)


class TagsTest(parameterized.TestCase):
    def test_reads_keys_and_values(self):
        names = ["View/AP_Supine", "X-ray", "Viral Pneumonia", "COVID-19", "Sex/F", "Age:55"]
        names += ["PatientID:263", "location:Hannover/Germany: x", "pO2_saturation:25"]
        facts = tags.read(names)
        assert facts == tags.Facts(
            "COVID-19", "COVID-19, Viral Pneumonia", "X-ray", "AP Supine", "F", 55.0, "263"
        )
        assert facts.is_frontal

    def test_nothing_known(self):
        facts = tags.read([])
        assert (facts.label, facts.finding, facts.view, facts.sex) == ("other", "", "", "")
        assert math.isnan(facts.age_years)
        assert facts.is_frontal

    @parameterized.parameters("View/L", "View/Lateral", "View/Axial", "View/Coronal")
    def test_views_that_are_not_frontal(self, name):
        assert not tags.read([name]).is_frontal

    @parameterized.parameters("", "unknown", "50s")
    def test_age_that_is_no_number_is_unknown(self, age):
        assert math.isnan(tags.read([f"Age:{age}"]).age_years)

    def test_other_diseases_are_other(self):
        facts = tags.read(["No Pneumonia (healthy)", "No Finding"])
        assert facts.label == "other"
        assert facts.finding == "No Finding, No Pneumonia (healthy)"

    def test_one_person_with_two_numbers(self):
        assert tags.patient_id("97", "1", ()) == tags.patient_id("178", "2", ())
        assert tags.patient_id("97", "1", ()) != tags.patient_id("98", "1", ())

    @parameterized.parameters(
        ("person12_bacteria_34.jpeg", "test_BACTERIA_person12_bacteria_35.jpeg", True),
        ("person12_bacteria_34.jpeg", "person1_bacteria_2.jpeg", False),
        ("BACTERIA-1008087-0001.jpeg", "BACTERIA-1008087-0002.jpeg", True),
        ("IM-0115-0001.jpeg", "NORMAL2-IM-0115-0001.jpeg", False),
        ("IM-0117-0001-0001.jpeg", "IM-0117-0001-0002.jpeg", True),
        ("chest.png", "chest.png", False),
    )
    def test_kermany_names_tell_the_patient(self, first, second, is_same):
        ids = tags.patient_id("", "1", [first]), tags.patient_id("", "2", [second])
        assert (ids[0] == ids[1]) == is_same
        assert all(ids)

    def test_unknown_patients_never_meet_known_ones(self):
        ids = [
            tags.patient_id("7", "1", ()),
            tags.patient_id("", "7", ()),
            tags.patient_id("", "8", ["person7_virus_7.jpeg"]),
        ]
        self.assertLen(set(ids), 3)

    def test_counts_kinds_that_it_does_not_know(self):
        names = ["COVID-19", "View/PA", "Survival/Y", "Mood/good", "Mood/bad", "Shoe:42"]
        assert tags.count_unknown(names) == {"Mood": 2, "Shoe": 1}


class DrawTest(absltest.TestCase):
    def test_half_a_pixel_is_not_lung_and_more_is(self):
        """Of each stored pixel's 4 x 4 pixels, these many columns are lung: 2, then 3."""
        ring = np.array([(0, 0), (1, 0), (1, 7), (0, 7)], np.float32)
        other = np.array([(4, 0), (6, 0), (6, 7), (4, 7)], np.float32)
        mask = pixels.draw(((ring,), (other,)), (8, 8))
        np.testing.assert_array_equal(np.asarray(mask)[0] > 0, [1, 1, 0, 0, 1, 1, 1, 0])
        folder = pathlib.Path(self.create_tempdir().full_path)
        Image.new("L", (8, 8)).save(folder / "x.png")
        item = annotation.Annotation("x", "x.json", (), (8, 8), lungs=((ring,), (other,)))
        sample = layout.Sample(item, "x.png", tags.read([]), "x")
        got = pixels.load(raw_tree.open_folder_and_zips(folder), sample, 2)
        stored = np.asarray(Image.open(io.BytesIO(got["lung_mask"])))
        np.testing.assert_array_equal(stored, [[0, 255], [0, 255]])

    def test_overlapping_lungs_are_joined(self):
        ring = np.array([(1, 1), (5, 1), (5, 5), (1, 5)], np.float32)
        once, twice = (np.asarray(pixels.draw(((ring,),) * n, (8, 8))) for n in (1, 2))
        np.testing.assert_array_equal(once, twice)
        assert once.any()


@pytest.mark.skipif(not _REAL.is_dir(), reason="needs the real samples")
class RealTest(absltest.TestCase):
    def test_special_cases_parse(self):
        tree = sources.open_tree(_REAL / "v7_darwin_json_fixtures")
        items = {item.image_id: item for item in sources.read_annotations(tree)}
        self.assertLen(items, 5)
        self.assertLen(items["1676725"].lungs, 2)  # Its complex polygon is Ignore.
        facts = {name: tags.read(item.tags) for name, item in items.items()}
        assert {name for name, fact in facts.items() if fact.modality == "CT"} == {
            "1676288",
            "1676495",
        }
        assert {name for name, fact in facts.items() if not fact.is_frontal} == {
            "1676288",
            "1676495",
            "1676768",
            "1676771",
        }
        assert not tags.count_unknown(name for item in items.values() for name in item.tags)

    def test_drawn_lungs_are_the_lungs_that_others_drew(self):
        """Their masks: drawn at native size, then the nearest pixel; measured 1.000 for all."""
        tree = sources.open_tree(_REAL / "xray_lung_v7")
        samples = layout.find_samples(tree)
        self.assertLen(samples, 90)
        scores = []
        for sample in samples[::6]:
            stem = pathlib.PurePosixPath(sample.image).stem
            mask = Image.open(_REAL / "xray_lung_v7" / "masks" / f"{stem}.png")
            drawn = pixels.draw(sample.annotation.lungs, sample.annotation.size)
            nearest = np.asarray(drawn.resize(mask.size, Image.Resampling.NEAREST)) > 0
            scores.append(_dice(nearest, np.asarray(mask) > 127))
            # By area instead of nearest: 0.997 at worst over all 90.
            stored = pixels.load(tree, sample, None)["lung_mask"]
            area = np.asarray(Image.open(io.BytesIO(stored))) > 0
            assert _dice(area, np.asarray(mask) > 127) > 0.99
        assert min(scores) > 0.995
        assert np.median(scores) > 0.999

    def test_images_with_masks_alone_are_read(self):
        tree = sources.open_tree(_REAL / "xray_lung_kermany_v7")
        samples = layout.find_samples(tree)
        self.assertLen(samples, 309)
        assert all("/" in sample.image and "mask" not in sample.image for sample in samples)
        self.assertLen({sample.patient_id for sample in samples}, 264)


if __name__ == "__main__":
    absltest.main()
