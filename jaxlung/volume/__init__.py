"""CT volumes: their grid in space, Hounsfield units, NIfTI in and out; no networks."""
