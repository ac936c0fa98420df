"""TFDS builders of the datasets, and phantoms that write the same raw trees."""
