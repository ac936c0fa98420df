"""Batches for the device: which record comes when, resident or streamed."""
