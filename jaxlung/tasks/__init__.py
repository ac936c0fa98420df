"""What a network's logits mean: a file per task, listed in `tasks.py` and described in `words.py`."""
