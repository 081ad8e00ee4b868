"""Attacks on what training reveals: what an adversary learns about a client, compared with one who knows nothing."""
