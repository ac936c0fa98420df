"""The commands of the command line, a module each: its arguments, their checks, what it starts."""
