"""Tests that phantom trees of CTs have the names and peculiarities of the real ones."""

import csv
import pathlib

import nibabel
import numpy as np
import pytest
from absl.testing import absltest

from tfds_builders.phantoms import covid19_ct_seg

_CT, _LUNG = "COVID-19-CT-Seg_20cases", "Lung_Mask"
# What the two copies on the web call the same files, from their own lists.
_ZENODO_NAMES = (f"{_CT}/coronacases_010.nii.gz", f"{_CT}/radiopaedia_10_85902_3.nii.gz")
_KAGGLE_NAMES = (
    "ct_scans/coronacases_org_010.nii",
    "ct_scans/radiopaedia_org_covid-19-pneumonia-10_85902_3-dcm.nii",
)


class PhantomTreeTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path) / "raw"

    def test_names_are_the_real_ones(self):
        names = [covid19_ct_seg.ct_name(x, "zenodo") for x in covid19_ct_seg.case_ids(20)]
        assert set(_ZENODO_NAMES) <= set(names)
        names = [covid19_ct_seg.ct_name(x, "kaggle") for x in covid19_ct_seg.case_ids(20)]
        assert set(_KAGGLE_NAMES) <= set(names)
        self.assertLen(set(names), 20)

    def test_few_cases_are_of_both_sources_and_many_go_on(self):
        assert covid19_ct_seg.case_ids(2) == ["coronacases_001", "radiopaedia_4_85506_1"]
        assert covid19_ct_seg.case_ids(22)[:12] == [f"coronacases_{n:03}" for n in range(1, 13)]

    def test_kaggles_list_names_the_files_there_are(self):
        covid19_ct_seg.write(self.root, 2, "kaggle")
        with (self.root / "metadata.csv").open() as file:
            rows = list(csv.DictReader(file))
        listed = [
            name.removeprefix("../input/covid19-ct-scans/") for r in rows for name in r.values()
        ]
        assert sorted(listed) == sorted(
            path.relative_to(self.root).as_posix() for path in self.root.rglob("*.nii")
        )

    def test_oddities_of_the_real_ones(self):
        covid19_ct_seg.write(self.root, 4)
        cts = [nibabel.load(path) for path in sorted((self.root / _CT).glob("*.nii.gz"))]
        values = [np.asarray(ct.dataobj) for ct in cts]
        assert all(v.dtype == np.int16 and v.min() < -900 for v in values[:2])
        assert all(v.min() >= 0 and v.max() <= 255 for v in values[2:])
        assert {v.dtype.name for v in values[2:]} == {"uint8", "float32"}
        self.assertLen({ct.shape for ct in cts}, 4)
        self.assertLen({ct.header.get_zooms() for ct in cts}, 4)
        mask = np.asarray(nibabel.load(self.root / _LUNG / "coronacases_002.nii.gz").dataobj)
        np.testing.assert_allclose(np.unique(mask), [0, 0.99995, 1.9999], rtol=1e-6)

    def test_same_arguments_same_bytes_and_another_seed_another(self):
        trees = []
        for name, seed in (("one", 5), ("two", 5), ("three", 6)):
            root = covid19_ct_seg.write(self.root / name, 2, seed=seed)
            trees.append({p.relative_to(root): p.read_bytes() for p in root.rglob("*.nii.gz")})
        assert trees[0] == trees[1]
        assert all(trees[0][name] != trees[2][name] for name in trees[0])

    def test_what_can_not_be_written_is_told(self):
        with pytest.raises(ValueError, match="at least 2, got 1"):
            covid19_ct_seg.write(self.root, 1)
        with pytest.raises(ValueError, match="want one of zenodo, kaggle, got 'drive'"):
            covid19_ct_seg.write(self.root, 2, "drive")


if __name__ == "__main__":
    absltest.main()
