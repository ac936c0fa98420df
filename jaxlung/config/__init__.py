"""Config files and the folder of a run: found, checked, read and kept apart."""
