"""A config in words."""

import numpy as np
from absl.testing import parameterized

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
            "Training": "12 epochs, 16 images a step, seed 3",
            "Augmentation": "flip probability 0.5",
        }

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
