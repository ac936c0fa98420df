"""Scripts that start a run on many devices; docs/scaling.md explains each."""
