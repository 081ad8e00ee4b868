"""Metrics, one file a family: plain functions of frames, and instruments that look through a pretrained network."""
