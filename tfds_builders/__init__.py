"""TFDS builders of the datasets, and phantoms: generated downloads in the same layouts."""
