"""The machine: files that appear whole, tables, locks, the terminal, compiled programs."""
