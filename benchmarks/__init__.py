"""Measurements of the project itself: run as modules, `python -m benchmarks.NAME`."""
