"""Scores of a checkpoint on a split, what it must beat, and what reports show."""
