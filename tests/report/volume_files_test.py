"""Files on single volumes are read, and damaged ones named."""

import numpy as np
import pytest
from absl.testing import parameterized
from etils import epath

from jaxlung.report import volume_files
from tests.report import volume_run


class VolumeFilesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.workdir = epath.Path(self.create_tempdir())

    def test_what_is_missing_is_nothing(self):
        assert volume_files.load_subjects(self.workdir) == []
        assert volume_files.load_amounts(self.workdir) == {}
        np.savez(self.workdir / "planes_test.npz")
        assert volume_files.load_subjects(self.workdir) == []

    def test_planes_come_volume_by_volume(self):
        ids = [f"case_{i}" for i in range(11)]  # "10" comes after "9", not after "1".
        np.savez(self.workdir / "planes_test.npz", **volume_run.make_planes(ids))
        subjects = volume_files.load_subjects(self.workdir)
        assert [subject.image_id for subject in subjects] == ids
        assert [subject.planes["axial"].index for subject in subjects] == list(range(3, 14))
        assert subjects[2].planes["sagittal"].aspect == pytest.approx(4 / 1.5)
        assert (subjects[2].planes["coronal"].image == 9).all()

    @parameterized.parameters(
        ({"1_coronal_pred": None}, "lacks '1_coronal_pred'"),
        ({"0_dice": None}, "lacks '0_dice'"),
        ({"stray": np.zeros(2)}, "got others"),
        ({"0_axial_pred": np.zeros((2, 2), bool)}, r"0_axial: image \(20, 16\), pred \(2, 2\)"),
        ({"0_axial_image": np.zeros(3)}, "0_axial: image"),
        ({"1_sagittal_aspect": 0.0}, "1_sagittal_aspect: 0.0"),
        ({"1_sagittal_aspect": np.nan}, "1_sagittal_aspect: nan"),
        ({"1_sagittal_aspect": np.ones(3)}, "got others"),
        ({"0_dice": "good"}, "got others"),
    )
    def test_wrong_planes_are_named(self, changes, message):
        volume_run.write_planes(self.workdir, **changes)
        with pytest.raises(ValueError, match=rf"planes_test\.npz: want the planes .*{message}"):
            volume_files.load_subjects(self.workdir)

    def test_a_file_that_cannot_be_read_is_named(self):
        path = self.workdir / "planes_test.npz"
        np.savez_compressed(path, **volume_run.make_planes())
        whole = path.read_bytes()
        # Bytes after the header of the first array's own file are its compressed content.
        spoilt = whole[:60] + bytes(30) + whole[90:]
        for content in (b"", b"no zip", whole[:-40], spoilt, b"\x93NUMPY"):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=r"planes_test\.npz: want the planes"):
                volume_files.load_subjects(self.workdir)
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
        with pytest.raises(ValueError, match="lone array"):
            volume_files.load_subjects(self.workdir)

    def test_amounts_are_those_that_are_known(self):
        volume_run.write_scores(self.workdir, "test")
        volume_run.write_scores(self.workdir, "train")
        (self.workdir / "scores_validation.csv").write_text("image_id,volume_ml\na,3\n")
        amounts = volume_files.load_amounts(self.workdir)
        assert list(amounts) == ["train", "test"]
        np.testing.assert_array_equal(amounts["test"].predicted, [100, 200])
        np.testing.assert_array_equal(amounts["test"].annotated, [120, 250])
        text = "image_id,volume_ml,true_volume_ml\na,3,nan\nb,4,5\n"
        (self.workdir / "scores_validation.csv").write_text(text)
        np.testing.assert_array_equal(
            volume_files.load_amounts(self.workdir)["validation"].predicted, [4]
        )
