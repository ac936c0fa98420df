"""Meaning of a network's logits: a file per task, a list in `tasks.py`, words in `words.py`."""
