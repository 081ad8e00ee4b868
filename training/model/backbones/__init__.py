"""Denoisers behind one interface: velocity from noisy latents, speech, reference and motion."""
