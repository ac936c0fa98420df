"""Generators of raw trees in the layout of each real download."""
