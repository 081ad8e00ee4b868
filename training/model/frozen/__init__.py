"""Frozen networks that judge decoded frames inside the local objective."""
