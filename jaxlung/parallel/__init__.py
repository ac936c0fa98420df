"""Devices and processes: the mesh and its shardings, processes of one run, signals."""
