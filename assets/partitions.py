"""The two ways work is cut: clients into a fixed number of buckets, training and evaluation by method."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import dagster as dg

BUCKETS = 16
"""One partition a client would not scale on sqlite; sixteen buckets serve eight clients or eight thousand."""

METHODS = ("privfedtalk", "fedavg")
REFERENCES = ("backbone", "copy_reference", "vae_ceiling", "noise")

client_buckets = dg.StaticPartitionsDefinition([f"bucket-{index:02d}" for index in range(BUCKETS)])
federated_methods = dg.StaticPartitionsDefinition(METHODS)
evaluated_methods = dg.StaticPartitionsDefinition([*METHODS, *REFERENCES])

every_bucket = dg.AllPartitionMapping()
own_adapter = dg.StaticPartitionMapping({method: method for method in METHODS})
"""A method's evaluation needs its own adapter; a reference needs none."""

in_one_run = dg.BackfillPolicy.single_run()


def bucket_of(client: str) -> str:
    """The bucket a client's files belong to: by its name, so that new clients move nobody."""
    number = int.from_bytes(hashlib.sha256(client.encode()).digest()[:4], "big") % BUCKETS
    return f"bucket-{number:02d}"


def in_buckets(clients: Iterable[str], keys: Iterable[str]) -> list[str]:
    """The clients that fall into the named buckets, sorted."""
    chosen = set(keys)
    return sorted(client for client in clients if bucket_of(client) in chosen)
