"""Runs a network over a split: images one by one, volumes window by window."""
