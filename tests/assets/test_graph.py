"""The graph as Dagster sees it: loadable, grouped, described, in the order of the pipeline."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg

from assets.stage.partitions import REFERENCES, evaluated_methods, federated_methods
from evaluation.measuring import models
from pipelines.definitions import defs
from pipelines.jobs import WHOLE_RUN
from pipelines.runner import _partitioned, _stretches
from training.federation.methods import METHODS

GROUPS = ["corpus", "preparation", "backbone", "federation", "evaluation", "reports", "attacks"]
ASKED_FOR = {"attacks"}
"""Groups that no run makes by itself."""
APART = {"night", "tables"}
"""Assets with a job of their own."""


def test_definitions_load() -> None:
    dg.Definitions.validate_loadable(defs)


def test_every_asset_is_grouped_described_and_has_its_kind() -> None:
    for spec in defs.resolve_all_asset_specs():
        assert spec.group_name in GROUPS, spec.key
        assert spec.description and spec.kinds and spec.owners, spec.key
    assert {spec.group_name for spec in defs.resolve_all_asset_specs()} == set(GROUPS)


def test_data_flow_from_corpus_to_reports() -> None:
    group = {spec.key: spec.group_name for spec in defs.resolve_all_asset_specs()}
    for spec in defs.resolve_all_asset_specs():
        for dependency in spec.deps:
            backwards = GROUPS.index(group[dependency.asset_key]) > GROUPS.index(group[spec.key])
            # The autoencoder is trained on crops and makes the latents inside the shards: the one step back.
            assert not backwards or (dependency.asset_key.path, spec.key.path) == (["vae"], ["shards"])


def test_the_jobs_of_a_whole_run_cover_every_asset_once_but_for_what_is_asked_for() -> None:
    covered = [key for name in WHOLE_RUN for key in defs.resolve_job_def(name).asset_layer.executable_asset_keys]
    specs = defs.resolve_all_asset_specs()
    made = [spec.key for spec in specs if spec.group_name not in ASKED_FOR and spec.key.path[-1] not in APART]
    assert sorted(covered) == sorted(made)
    for job, asset in (("nightly", "night"), ("paper_tables", "tables")):
        assert [key.path for key in defs.resolve_job_def(job).asset_layer.executable_asset_keys] == [[asset]]


def test_the_checks_are_there_and_those_that_stop_a_run_block() -> None:
    checks = {
        key.name: checked.get_spec_for_check_key(key).blocking
        for checked in defs.asset_checks or []
        for key in checked.check_keys
    }
    blocking = (
        "splits_disjoint", "dealt_once", "shards_whole", "adapters_finite", "no_false_claims", "quality_gates",
        "models_beat_gates", "no_metric_worse",
    )  # fmt: skip
    warning = ("few_clips_refused", "no_slow_decline")
    assert checks == dict.fromkeys(blocking, True) | dict.fromkeys(warning, False)


def test_partitions_name_the_methods_and_references_that_exist() -> None:
    assert set(federated_methods.get_partition_keys()) == set(METHODS)
    assert set(evaluated_methods.get_partition_keys()) == {*METHODS, *models.REFERENCES}
    assert set(REFERENCES) == set(models.REFERENCES)


def test_a_job_runs_over_the_methods_that_are_chosen() -> None:
    train, evaluate = (defs.resolve_job_def(name) for name in ("train", "evaluate"))
    assert _stretches(train, ("privfedtalk", "fedavg")) == [("privfedtalk", "fedavg")]
    assert _stretches(train, ("local", "fedavg")) == [("fedavg", "fedavg"), ("local", "local")]
    assert _stretches(evaluate, ("privfedtalk", "fedavg")) == [("backbone", "fedavg")]
    assert _stretches(evaluate, ("fedprox",)) == [("backbone", "noise"), ("fedprox", "fedprox")]
    assert [key.path for key in _partitioned(train)] == [["adapter"]]
    assert _stretches(defs.resolve_job_def("reports"), ()) == []


def test_definitions_load_without_torch() -> None:
    script = "import sys, pipelines.definitions; print([n for n in ('torch', 'pandas', 'cv2') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
