"""Training: the loop, its step, the system, checkpoints, and opening a trained run."""
