"""The machine: whole files, tables, locks, the terminal, compiled programs."""
