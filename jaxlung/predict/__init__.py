"""A trained run on somebody's files: find, read, predict, measure, write."""
