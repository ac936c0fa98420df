"""Tasks, which say what logits mean: a file each, listed in `tasks.py`, described in `words.py`."""
