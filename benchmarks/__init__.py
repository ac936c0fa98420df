"""Measurements that anyone can repeat; docs/benchmarks.md has the commands and the results."""
