"""Metrics: a topic per file."""
