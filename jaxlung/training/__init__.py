"""The loop, its step, checkpoints, and the network of a trained run."""
