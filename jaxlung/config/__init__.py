"""Config files, and the folder of a run and its files: finds, checks and reads them."""
