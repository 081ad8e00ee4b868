"""Nightly measurements of the newest models on the same public clips: which metric got worse, and since when."""
