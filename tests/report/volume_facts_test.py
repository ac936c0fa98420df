"""The config of a run on CT volumes in words."""

import numpy as np
from absl.testing import parameterized

from jaxlung.report import facts, volume_facts

CONFIG = {
    "seed": 0,
    "epochs": 200,
    "selection": "best_score",
    "task_name": "volume_mask",
    "model_name": "fv_paspp_unet",
    "model": {
        "widths": [4, 8],
        "attention": "ce",
        "paspp": True,
        "deep_supervision": False,
        "dtype": "float32",
    },
    "task": {"target": "infection", "region": "lung", "loss": "bce_dice", "alpha": 0.5},
    "window_hu": [-1250.0, 250.0],
    "data": {
        "name": "covid19_ct_seg/native",
        "phantom_images": 6,
        "fold": 1,
        "folds": 5,
        "patch_size": [8, 128, 96],
        "patches_per_volume": 50,
        "foreground": "infection",
        "foreground_fraction": 0.5,
        "spacing_mm": [0.0, 0.0, 0.0],
        "batch_size": 5,
    },
    "inference": {"overlap": 0.25, "mirror": False, "keep_largest": 0, "inside_lungs": True},
    "augment": {
        "flip_probability": [0.0, 0.5, 0.5],
        "shift_fraction": [0.0, 0.0, 0.0],
        "zoom_range": [0.9, 1.1],
        "noise_std": 0.0,
    },
}


class VolumeFactsTest(parameterized.TestCase):
    def test_a_run_is_told_whole(self):
        metrics = {"seconds": np.ones(2), "images_per_s": np.array([20.0, 30.0])}
        assert facts.list_facts(CONFIG, metrics) == {
            "Data": "covid19_ct_seg/native",
            "Generated CTs": "6",
            "Network": "fv_paspp_unet with 4, 8 channels, float32",
            "Task": "volume_mask",
            "Target": "infection",
            "Loss": "0.5 cross-entropy + Dice loss",
            "Training": "200 epochs, 5 patches per step, seed 0",
            "Checkpoint scored": "the one with the highest validation Dice",
            "Cross-validation": "fold 1 of 5, counted from 0",
            "Patches": "8 x 128 x 96 voxels (slices, rows, columns), 50 per volume and epoch,"
            " 50 % of them centred on infection",
            "Spacing": "as scanned",
            "Window": "-1250 to 250 HU",
            "Visible to the network": "the CT inside the lung mask, 0 outside",
            "Parts of the network": "FV blocks with CE attention, PASPP",
            "Inference on whole volumes": "windows overlap by 25 %; nothing predicted outside the"
            " annotated lungs",
            "Augmentation": "flip probability 0.0 / 0.5 / 0.5 (slices / rows / columns),"
            " zoom range 0.9, 1.1",
            "Training time": "2 s",
            "Speed": "25 patches/s (median of epochs)",
        }

    def test_what_a_config_lacks_is_left_out(self):
        assert volume_facts.list_facts({}) == {}
        assert volume_facts.list_facts({"data": {"patch_size": [4, 8, 8]}}) == {
            "Patches": "4 x 8 x 8 voxels (slices, rows, columns)"
        }

    @parameterized.parameters(
        ("none", False, False, "no FV blocks, PASPP or deep supervision"),
        ("se", True, True, "FV blocks with SE attention, PASPP, deep supervision"),
        ("none", False, True, "deep supervision"),
    )
    def test_parts_of_the_network_are_named(self, attention, paspp, deep_supervision, want):
        model = dict(attention=attention, paspp=paspp, deep_supervision=deep_supervision)
        assert volume_facts.list_facts({"model": model}) == {"Parts of the network": want}

    @parameterized.parameters(
        (dict(mirror=True), "; outputs averaged over mirrored copies"),
        (dict(keep_largest=2), "; only the 2 largest connected parts kept"),
        (dict(keep_largest=1), "; only the largest connected part kept"),
        (dict(), ""),
    )
    def test_inference_is_told(self, changes, want):
        inference = dict(overlap=0.5, mirror=False, keep_largest=0, inside_lungs=False) | changes
        got = volume_facts.list_facts({"inference": inference})["Inference on whole volumes"]
        assert got == f"windows overlap by 50 %{want}"

    @parameterized.parameters(
        ([2.5, 1.0, 1.0], "2.5 x 1 x 1 mm (slices, rows, columns)"),
        ([5.0, 0.0, 0.0], "5 x as scanned x as scanned mm (slices, rows, columns)"),
    )
    def test_a_common_spacing_is_named(self, spacing_mm, want):
        assert volume_facts.list_facts({"data": {"spacing_mm": spacing_mm}})["Spacing"] == want

    def test_the_full_region_is_the_whole_ct(self):
        facts_of_full = volume_facts.list_facts({"task": {"region": "full"}})
        assert facts_of_full == {"Visible to the network": "the whole CT"}

    def test_the_best_score_of_images_is_not_called_dice(self):
        got = facts.list_facts({"selection": "best_score"}, {})
        assert got == {"Checkpoint scored": "the one with the highest validation score"}
