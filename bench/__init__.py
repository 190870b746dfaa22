"""Benchmarks: `make bench` and what it is made of."""
