"""How work is cut: preparation by bucket of clients, training and evaluation by method.

A client is no partition: thousands of them drown Dagster's storage. A bucket holds many clients, always the same, and
can be prepared again without the others. A method is a partition, so that one can be trained again, or compared
tomorrow, without touching the others.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable

import dagster as dg

from evaluation import catalogue
from preparation.clients.buckets import by_bucket
from training.federation.methods import METHODS

# Beta for years, and the documented way to run many partitions as one; saying so at every start helps nobody.
warnings.filterwarnings("ignore", "Parameter `backfill_policy`", category=dg.BetaWarning)

BUCKETS = int(os.environ.get("PRIVFEDTALK_BUCKETS", "16"))
"""Partitions are known before any run is opened, so this is a variable of the environment, not a run's setting. 16 suit
thousands of clients, 128 the largest corpora; another number changes no file of a run."""

client_buckets = dg.StaticPartitionsDefinition([f"{number:03d}" for number in range(BUCKETS)])

REFERENCES = tuple(one.key for one in catalogue.REFERENCES)

federated_methods = dg.StaticPartitionsDefinition([*METHODS])
"""Every method that there is; `training.methods` of the configuration says which of them a run is for."""
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
    """The names of all members, or None where all buckets are there: nobody needs to be named then."""
    return None if len(found) == BUCKETS else sorted(name for names in found.values() for name in names)
