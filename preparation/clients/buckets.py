"""Clients in a fixed number of buckets: parts of the work that can be started, and repeated, alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def bucket_of(client: str, buckets: int) -> int:
    """The client's bucket, 0 to `buckets` - 1: by a hash of its name, so that newcomers move nobody."""
    return int.from_bytes(hashlib.sha256(client.encode()).digest()[:8]) % buckets


def by_bucket(clients: Iterable[str], buckets: int) -> list[list[str]]:
    """The clients of each bucket, sorted; with few clients some buckets are empty."""
    members: list[list[str]] = [[] for _ in range(buckets)]
    for client in sorted(clients):
        members[bucket_of(client, buckets)].append(client)
    return members
