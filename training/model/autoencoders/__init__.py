"""Autoencoders, frames to latents and back: their interface, the kinds, and the sources of pretrained ones."""
