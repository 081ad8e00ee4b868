"""The nightly asset and its checks through Dagster: a spoilt model fails the run and says which metric fell."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from assets.evaluation.nightly import night, no_metric_worse, no_slow_decline
from common.folders import RunFolder
from common.weights import registry as weights
from evaluation.nightly.settings import NightlySettings
from pipelines.configuration.tree import load, read_overrides
from pipelines.resources import RunResource
from tests.evaluation.nightly.small_nights import make_run, save_adapter

SETTINGS = ["run=small", "training.generation.steps=1", "nightly.clips_per_person=1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    make_run(data / "small")
    return data


@pytest.fixture
def data(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path))  # no pretrained network anywhere
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Path(shutil.copytree(made, tmp_path / "data"))


def measure(data: Path, name: str, *more: str, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [night, no_metric_worse, no_slow_decline],
        resources={"run": RunResource(profile="small", overrides=read_overrides([f"data={data}", *SETTINGS, *more]))},
        run_config={"ops": {"night": {"config": {"night": name}}}},
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=raise_on_error,
    )


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


@pytest.mark.slow
def test_a_metric_that_got_worse_fails_the_check_with_a_readable_message(data: Path) -> None:
    first = measure(data, "2026-01-01")
    assert first.success and "nothing to compare with" in str(checks(first)["no_metric_worse"].description)
    metadata = first.asset_materializations_for_node("night")[0].metadata
    assert metadata["night"].value == "2026-01-01" and metadata["people"].value == 7
    assert {"fedavg validation_loss", "privfedtalk psnr", "backbone identity"} <= set(metadata)
    assert "data:image/png" in metadata["history"].value and "data:image/jpeg" in metadata["frames"].value

    save_adapter(RunFolder(data / "small"), "fedavg", noise_level=1.0)
    second = measure(data, "2026-01-02", raise_on_error=False)
    assert not second.success
    found = checks(second)["no_metric_worse"]
    assert not found.passed and found.blocking and found.severity == dg.AssetCheckSeverity.ERROR
    said = str(found.description)
    assert said.startswith("worse than on 2026-01-01: ") and "FedAvg: validation loss rose from" in said
    assert "worse for 7 of 7 people" in said and "PrivFedTalk" not in said

    # The same model once more is no worse than the night before; the drift since the first night still shows.
    third = measure(data, "2026-01-03")
    assert third.success and checks(third)["no_metric_worse"].passed
    drift = checks(third)["no_slow_decline"]
    assert not drift.passed and drift.severity == dg.AssetCheckSeverity.WARN
    assert "declined since 2026-01-01" in str(drift.description)


@pytest.mark.slow
def test_a_panel_too_small_to_tell_warns(data: Path) -> None:
    few = "nightly.people=3"
    measure(data, "2026-01-01", few)
    second = measure(data, "2026-01-02", few)
    found = checks(second)["no_metric_worse"]
    assert second.success and not found.passed and found.severity == dg.AssetCheckSeverity.WARN
    assert "3 people cannot show" in str(found.description)


def test_the_defaults_can_find_something_in_the_demo() -> None:
    from evaluation.nightly.nights import smallest_p

    configuration = load("demo")
    people = round(configuration.studio.public_speakers * configuration.preparation.clients.public_validation_fraction)
    people = min(people + configuration.studio.unseen, NightlySettings().people)
    assert smallest_p(people, len(configuration.training.methods) + 1) < NightlySettings().level
