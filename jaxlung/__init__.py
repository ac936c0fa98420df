"""Lung and infection segmentation on chest X-ray and CT."""
