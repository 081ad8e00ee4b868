"""Metrics, one file for each family: plain functions of frames, and instruments that use a pretrained network."""
