"""Reports and model cards, made from the files of a finished run."""
