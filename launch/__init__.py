"""What starts a run on many devices: each file is explained in docs/scaling.md."""
