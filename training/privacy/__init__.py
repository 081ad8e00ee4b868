"""Client-level privacy: bounded contributions, noise, secure aggregation, accounting, and an honest report."""
