"""A network over a split: images one by one, volumes window by window."""
