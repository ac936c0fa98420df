"""Measurements to repeat: each file is a command that prints a line of JSON last."""
