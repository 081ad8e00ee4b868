"""The stages that a stage depends on, read from Dagster's dependencies: so the project has only one graph."""

from __future__ import annotations

from functools import cache

import dagster as dg

from assets.stage.partitions import evaluated_methods, federated_methods
from training.federation.methods import METHODS

ONE_FOR_EACH_METHOD = {"adapter": "federation", "evaluation": "evaluation", "inversion": "attacks/inversion"}
"""Assets that have a stage for each method, `<this>/<method>`; every other asset has one stage, of its own name."""


def stage_name(asset: str, method: str = "") -> str:
    """The name of an asset's stage, or of its stage for `method` if it has one for each method."""
    return f"{ONE_FOR_EACH_METHOD[asset]}/{method}" if asset in ONE_FOR_EACH_METHOD else asset


@cache
def stages_before(asset: dg.AssetsDefinition, method: str = "") -> tuple[tuple[str, str], ...]:
    """The assets that an asset depends on, each with the name of its stage; a dependency with a stage for each method
    appears once for each method that the asset reads."""
    found: list[tuple[str, str]] = []
    for dep in sorted(asset.get_asset_spec().deps, key=lambda dep: dep.asset_key):
        name = dep.asset_key.path[-1]
        methods = _methods_read(dep, asset, method) if name in ONE_FOR_EACH_METHOD else [""]
        found += [(name, stage_name(name, each)) for each in methods]
    return tuple(found)


def _methods_read(dep: dg.AssetDep, asset: dg.AssetsDefinition, method: str) -> list[str]:
    """The methods whose stage of `dep` the asset reads, in its own stage for `method`."""
    if asset.partitions_def == evaluated_methods and dep.partition_mapping is not None:
        mapped = dep.partition_mapping.get_upstream_mapped_partitions_result_for_partitions(
            evaluated_methods.subset_with_partition_keys([method]), evaluated_methods, federated_methods
        )
        return sorted(mapped.partitions_subset.get_partition_keys())
    return [method] if method else list(METHODS)
