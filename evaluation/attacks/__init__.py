"""Attacks on what training lets out: what an adversary learns of a client, beside one who knows nothing."""
