"""Frames to latents and back: what every autoencoder answers, the pretrained ones, and where they come from."""
