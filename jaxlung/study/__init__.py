"""Several runs and what they come to side by side: a file in configs/studies, a table, figures."""
