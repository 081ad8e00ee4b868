"""Denoisers behind one interface: a prediction from noisy latents, speech, reference and motion."""
