"""Studies: several runs side by side, from a file in configs/studies to a table and figures."""
