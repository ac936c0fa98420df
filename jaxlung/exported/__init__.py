"""Reads a network from one file that `jaxlung export` wrote; the networks that come along."""
