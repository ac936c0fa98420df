"""A config in words."""

import numpy as np
from absl.testing import parameterized

from jaxlung.config import defaults
from jaxlung.report import facts

CONFIG = {
    "seed": 3,
    "epochs": 12,
    "model_name": "unet",
    "model": {"widths": [4, 8], "dtype": "bfloat16"},
    "data": {"name": "folder", "root": "my_xrays", "batch_size": 16, "phantom_images": 0},
    "augment": {"flip_probability": 0.5, "shear_degrees": 0.0, "zoom_range": [1.0, 1.0]},
}


class FactsTest(parameterized.TestCase):
    def test_fields_are_put_in_words_and_missing_ones_left_out(self):
        assert facts.list_facts(CONFIG, {}) == {
            "Data": "folder",
            "Images from": "my_xrays",
            "Network": "unet with 4, 8 channels, bfloat16",
            "Training": "12 epochs, 16 images per step, seed 3",
            "Augmentation": "flip probability 0.5",
        }

    def test_the_fold_of_a_cross_validation_is_told(self):
        config = {"data": {"name": "cxr_lungs/512", "fold": 1, "folds": 5}}
        want = {"Data": "cxr_lungs/512", "Cross-validation": "fold 1 of 5, counted from 0"}
        assert facts.list_facts(config, {}) == want
        single = {"data": {"name": "cxr_lungs/512", "fold": 0, "folds": 0}}
        assert facts.list_facts(single, {}) == {"Data": "cxr_lungs/512"}

    @parameterized.parameters(
        ({"loss": "bce"}, "binary cross-entropy"),
        ({"loss": "iou", "alpha": 0.5}, "1 - soft IoU"),
        ({"loss": "bce_iou", "alpha": 0.3}, "0.3 cross-entropy + 0.7 (1 - soft IoU)"),
        ({"loss": "focal", "alpha": 0.25}, "focal loss, foreground weighted 0.25"),
        ({"loss": "tversky", "alpha": 0.3}, "Tversky loss, false positives weighted 0.3"),
        ({"loss": "dice", "alpha": 0.3}, "Dice loss"),
        ({"loss": "unheard_of"}, "unheard_of"),
    )
    def test_losses_are_spelled_out(self, task, want):
        assert facts.list_facts({"task": task}, {}) == {"Loss": want}

    def test_the_optimizer_is_told_in_words_and_an_older_one_in_part(self):
        recipe = dict(name="adamw", schedule="one_cycle", warmup_fraction=0.3, average_decay=0.99)
        config = {"optimizer": defaults.optimizer(**recipe, clip_norm=1.0, weight_decay=0.05)}
        assert facts.list_facts(config, {}) == {
            "Optimizer": "AdamW",
            "Learning rate": "0.001",
            "Schedule": "one cycle, rising over the first 30 % of the run",
            "Weight decay": "0.05",
            "Gradients clipped to": "1.0",
            "Network scored": "the average over about 100 steps",
        }
        plain = {"Optimizer": "Adam", "Learning rate": "0.001"}
        assert facts.list_facts({"optimizer": defaults.optimizer()}, {}) == plain
        older = {"optimizer": {"learning_rate": 1e-4, "weight_decay": 1e-8}}
        assert facts.list_facts(older, {}) == {"Learning rate": "0.0001", "Weight decay": "1e-08"}

    def test_control_is_told_in_words(self):
        control = {
            "plateau_patience": 3,
            "plateau_factor": 0.5,
            "plateau_min_delta": 1e-4,
            "plateau_cooldown": 2,
            "min_learning_rate": 1e-6,
            "stop_patience": 1,
            "stop_min_delta": 0.0,
        }
        config = {"control": control, "epochs": 25, "data": {"batch_size": 4}, "seed": 0}
        metrics = dict(epoch=np.array([1.0, 2.0]), seconds=np.ones(2), images_per_s=np.ones(2))
        got = facts.list_facts(config, metrics)
        assert got["Training"] == "at most 25 epochs, 4 images per step, seed 0"
        assert got["Learning rate reduced"] == (
            "multiplied by 0.5 if the validation loss has not fallen by more than 0.0001 for"
            " 3 epochs, with a cooldown of 2 epochs; never below 1e-06"
        )
        assert got["Early stopping"] == (
            "if the validation loss has not fallen for 1 epoch; this run trained for 2 epochs"
        )
        off = config | {"control": control | {"plateau_patience": 0, "stop_patience": 0}}
        assert facts.list_facts(off, {}) == {"Training": "25 epochs, 4 images per step, seed 0"}

    def test_names_of_ours_become_words(self):
        config = {
            "selection": "best",
            "init_from": "runs/a",
            "freeze": ["encoder", "norm"],
            "task": {"lungs": "predicted"},
        }
        assert facts.list_facts(config, {}) == {
            "Visible to the network": "the lungs that a lung network finds",
            "Initialised from": "runs/a",
            "Frozen parameters": "encoder, norm",
            "Checkpoint scored": "the one with the lowest validation loss",
        }
        assert facts.list_facts({"init_from": "", "freeze": []}, {}) == {}

    @parameterized.parameters(
        ({"task": {"threshold": 0.2}}, "set in the config"),
        ({"task": {"threshold": "youden"}}, "chosen on the validation split"),
        ({}, "chosen on the validation split"),
    )
    def test_a_threshold_says_where_it_is_from(self, config, origin):
        assert facts.list_facts(config, {}, 0.2)["Threshold"] == f"0.2, {origin}"

    def test_a_temperature_says_where_it_is_from(self):
        got = facts.list_facts({}, {}, temperature=0.123456)
        assert got == {"Temperature": "0.1235, fitted to the validation split"}
        got = facts.list_facts({}, {}, temperature=1.0)
        assert got == {"Temperature": "1, as the validation split determines no other"}

    def test_time_and_speed_come_from_the_metrics(self):
        metrics = {"seconds": np.array([40.0, 35.0]), "images_per_s": np.array([np.nan, 1500.0])}
        assert facts.list_facts({}, metrics) == {
            "Training time": "1 min 15 s",
            "Speed": "1,500 images/s (median of epochs)",
        }

    def test_phantoms_are_known(self):
        assert facts.is_phantom({"data": {"phantom_images": 40}})
        assert not facts.is_phantom(CONFIG)
        assert not facts.is_phantom({})
