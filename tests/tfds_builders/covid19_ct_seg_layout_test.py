"""Tests that the files of a CT download are joined in either naming."""

import logging
import pathlib
import zipfile

import pytest
from absl.testing import absltest, parameterized

from tfds_builders import raw_tree
from tfds_builders.covid19_ct_seg import layout
from tfds_builders.phantoms import covid19_ct_seg

_CT, _LUNG, _BOTH = "COVID-19-CT-Seg_20cases", "Lung_Mask", "Lung_and_Infection_Mask"
_FIRST = "coronacases_001.nii.gz"
# What the two copies on the web call the same files, from their own lists.
_ZENODO_NAMES = (f"{_CT}/coronacases_010.nii.gz", f"{_CT}/radiopaedia_10_85902_3.nii.gz")
_KAGGLE_NAMES = (
    "ct_scans/coronacases_org_010.nii",
    "ct_scans/radiopaedia_org_covid-19-pneumonia-10_85902_3-dcm.nii",
)


def _names(names) -> raw_tree.RawTree:
    return raw_tree.RawTree("here", sorted(names), lambda name: b"")


class LayoutTest(parameterized.TestCase):
    @parameterized.parameters(
        ("coronacases_001.nii.gz", "coronacases_001"),
        ("coronacases_org_001.nii", "coronacases_001"),
        ("coronacases_org_case007.nii", "coronacases_007"),
        ("case009.nii", "coronacases_009"),
        ("radiopaedia_10_85902_1.nii.gz", "radiopaedia_10_85902_1"),
        ("radiopaedia_org_covid-19-pneumonia-4_85506_1-dcm.nii", "radiopaedia_4_85506_1"),
        ("radiopaedia_org_covid-19-pneumonia-29_86490_1-dcm.nii", "radiopaedia_29_86490_1"),
        ("ct_scans/case009.nii/scan.nii", None),
        ("case009.nii/case009.nii", "coronacases_009"),
        ("tr_im.nii.gz", None),
    )
    def test_names_speak_of_cases(self, name, want):
        assert layout.case_of(name) == want

    def test_two_scans_of_one_person_share_it_and_all_others_do_not(self):
        cases = covid19_ct_seg.case_ids(20)
        people = [layout.patient_of(case_id) for case_id in cases]
        of = dict(zip(cases, people, strict=True))
        assert of["radiopaedia_10_85902_1"] == of["radiopaedia_10_85902_3"]
        assert of["radiopaedia_29_86490_1"] == of["radiopaedia_29_86491_1"]
        self.assertLen(set(people), 18)

    def test_names_of_either_copy_pair_by_case(self):
        for cts, suffix in ((_ZENODO_NAMES, ".nii.gz"), (_KAGGLE_NAMES, ".nii")):
            cases = ("coronacases_010", "radiopaedia_10_85902_3")
            masks = [f"{x}/{y}{suffix}" for x in ("lung_mask", "infection_mask") for y in cases]
            samples = layout.find_samples(_names([*cts, *masks]))
            assert [sample.ct for sample in samples] == list(cts)
            for sample in samples:
                for name in (sample.lung_mask, sample.infection_mask):
                    self.assertEndsWith(name, f"{sample.case_id}{suffix}")

    def test_published_number_gives_no_warning_and_the_order_of_numbers(self):
        cases = covid19_ct_seg.case_ids(20)
        names = [f"{x}/{y}.nii.gz" for x in (_CT, _BOTH) for y in cases]
        with self.assertNoLogs("absl", logging.WARNING):
            samples = layout.find_samples(_names(names))
        assert [sample.case_id for sample in samples] == cases

    def test_files_of_systems_are_passed_over_and_strange_names_told(self):
        names = [f"{x}/{_FIRST}" for x in (_CT, _BOTH)]
        strays = [f"__MACOSX/{_CT}/._{_FIRST}", f"{_CT}/._{_FIRST}", f"elsewhere/{_FIRST}"]
        with self.assertLogs("absl", logging.WARNING) as logs:
            (sample,) = layout.find_samples(_names([*names, *strays, f"{_CT}/mine.nii"]))
        assert sample.ct == f"{_CT}/{_FIRST}"
        assert f"{_CT}/mine.nii names no case and is left out (1 in all)" in logs.output[0]

    @parameterized.parameters("{} (1).zip", "{} (12)", "copy/{} (2).ZIP", "{} (1)/{}")
    def test_names_that_a_browser_numbered_are_known(self, renamed):
        names = [f"{renamed.replace('{}', x)}/{_FIRST}" for x in (_CT, _BOTH)]
        (sample,) = layout.find_samples(_names(names))
        assert [sample.ct, sample.both_mask] == names
        # Beside the first download it is the same file twice.
        (sample,) = layout.find_samples(_names([*names, f"{_CT}.zip/{_FIRST}"]))
        assert sample.ct in (names[0], f"{_CT}.zip/{_FIRST}")

    @parameterized.parameters(
        ([f"{_CT}/{_FIRST}"], "coronacases_001.nii.gz has no lung mask"),
        ([f"{_CT}/{_FIRST}", f"{_LUNG}/{_FIRST}"], "has no infection mask .1 in all"),
        (
            [f"{_CT}/{_FIRST}", f"{_BOTH}/{_FIRST}", f"{_LUNG}/coronacases_002.nii.gz"],
            "Lung_Mask/coronacases_002.nii.gz is a mask without a CT",
        ),
        (
            [f"{_CT}/{_FIRST}", "ct_scans/coronacases_org_001.nii", f"{_BOTH}/{_FIRST}"],
            f"want one CT for coronacases_001, found {_CT}/{_FIRST} and ct_scans/coronacases_org",
        ),
        (
            [f"{_CT}/{_FIRST}", f"{_BOTH}/{_FIRST}", f"{_BOTH}/coronacases_001.nii"],
            "want one lung and infection mask for coronacases_001",
        ),
    )
    def test_cases_that_do_not_pair_are_named(self, names, message):
        with pytest.raises(ValueError, match=message) as caught:
            layout.find_samples(_names(names))
        self.assertStartsWith(str(caught.value), "here: ")

    def test_nothing_of_the_dataset_is_told(self):
        folder = pathlib.Path(self.create_tempdir().full_path) / "folder"
        folder.mkdir()
        (folder / "scan.nii").write_bytes(b"")
        packed = folder.with_name("other.zip")
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(folder / "scan.nii", "scan.nii")
        for place, found in ((folder, "scan.nii"), (packed, "1 other files")):
            with pytest.raises(ValueError, match=f"want COVID-19-CT-Seg .*found .*{found}"):
                layout.open_tree(place)
        with pytest.raises(ValueError, match="found no such place"):
            layout.open_tree(folder / "absent")


if __name__ == "__main__":
    absltest.main()
