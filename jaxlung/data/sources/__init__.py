"""Datasets: a builder's prepared records, or a user's own folder, opened by split."""
