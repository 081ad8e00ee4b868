"""Pretrained networks that metrics look through, and the cache of what they saw in true clips."""
