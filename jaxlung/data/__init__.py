"""From records on disk to batches on the device; no networks."""
