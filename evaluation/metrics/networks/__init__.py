"""Pretrained networks that metrics use, and the cache of their features of true clips."""
