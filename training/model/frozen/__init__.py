"""Frozen networks for the local objective's losses on decoded frames."""
