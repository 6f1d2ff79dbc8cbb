"""Measurements that the documents cite; each module is a program: `python -m simulations.benchmarks.NAME`."""
