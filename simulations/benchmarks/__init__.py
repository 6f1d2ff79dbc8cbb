"""Benchmarks: programs that measure, to be run by hand: `python -m simulations.benchmarks.NAME`."""
