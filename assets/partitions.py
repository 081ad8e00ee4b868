"""How work is cut: training and evaluation by method.

A method is a partition, so that one can be trained again, or compared tomorrow, without touching the others.
"""

from __future__ import annotations

import warnings

import dagster as dg

# Beta for years, and the documented way to run many partitions as one; saying so at every start helps nobody.
warnings.filterwarnings("ignore", "Parameter `backfill_policy`", category=dg.BetaWarning)

METHODS = ("privfedtalk", "fedavg")
REFERENCES = ("backbone", "copy_reference", "vae_ceiling", "noise")

federated_methods = dg.StaticPartitionsDefinition(METHODS)
evaluated_methods = dg.StaticPartitionsDefinition([*METHODS, *REFERENCES])

own_adapter = dg.StaticPartitionMapping({method: method for method in METHODS})
"""A method's evaluation needs its own adapter; a reference needs none."""

in_one_run = dg.BackfillPolicy.single_run()
"""All methods in one process: a run a method would load the networks anew each time."""
