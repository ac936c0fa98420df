"""From the files of a finished run to figures and one page; no JAX here."""
