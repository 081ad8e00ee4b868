"""Partitions: preparation is cut by bucket of clients, training and evaluation by method.

A client is not a partition, because thousands of them would drown Dagster's storage. A bucket holds many clients,
always the same, and can be prepared again without the others. A method is a partition, so that one can be trained or
evaluated again without touching the others.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable

import dagster as dg

from evaluation import catalogue
from preparation.clients.buckets import by_bucket
from training.federation.methods import METHODS

# The parameter has been beta for years and is the documented way to run many partitions as one: no need to warn.
warnings.filterwarnings("ignore", "Parameter `backfill_policy`", category=dg.BetaWarning)

BUCKETS = int(os.environ.get("PRIVFEDTALK_BUCKETS", "16"))
"""The number of buckets. Partitions are known before any run is opened, so it is an environment variable, not a run's
setting. 16 suit thousands of clients, 128 the largest corpora; another number changes no file of a run."""

client_buckets = dg.StaticPartitionsDefinition([f"{number:03d}" for number in range(BUCKETS)])

REFERENCES = tuple(one.key for one in catalogue.REFERENCES)

federated_methods = dg.StaticPartitionsDefinition([*METHODS])
"""All methods; the setting `training.methods` says which of them a run trains."""
evaluated_methods = dg.StaticPartitionsDefinition([*REFERENCES, *METHODS])

own_adapter = dg.StaticPartitionMapping({method: method for method in METHODS})
"""A method's evaluation needs its own adapter; a reference needs none."""

in_one_run = dg.BackfillPolicy.single_run()
"""All partitions in one process: a run for each would load the networks anew every time."""


def every_partition(asset: dg.AssetsDefinition) -> dg.AssetDep:
    """Depend on all partitions of an asset: the clips of every bucket, the adapters of every method."""
    return dg.AssetDep(asset, partition_mapping=dg.AllPartitionMapping())


def members(clients: Iterable[str], keys: Collection[str]) -> dict[str, list[str]]:
    """The clients of each of these buckets."""
    every = by_bucket(clients, BUCKETS)
    return {key: every[int(key)] for key in sorted(keys)}


def chosen(found: dict[str, list[str]]) -> list[str] | None:
    """The names of all clients in these buckets, or None, meaning everybody, if all buckets are given."""
    return None if len(found) == BUCKETS else sorted(name for names in found.values() for name in names)
