"""Metrics of predictions against their reference, one topic per file."""
