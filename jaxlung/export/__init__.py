"""A trained network as one file, and the reader of such files."""
