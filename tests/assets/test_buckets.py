"""Preparation in buckets of clients: all of them in one run, and one alone without touching the others."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest

from assets.preparation.shards import client_report, crops, shards, shards_whole
from assets.stage.partitions import BUCKETS, client_buckets
from assets.stage.stages import read_records
from assets.training.backbone import backbone, rulers
from common.folders import RunFolder
from pipelines.configuration.tree import load, read_overrides
from pipelines.definitions import defs
from pipelines.jobs import PREPARE
from pipelines.resources import RunResource, open_run
from preparation.clients.buckets import bucket_of, by_bucket
from preparation.clients.report import load_client_report
from preparation.clients.roles import load_clients, of_role

TINY = [
    "run=tiny",
    "studio.public_speakers=3",
    "studio.public_clips=1",
    "studio.clients=2",
    "studio.client_clips=2",
    "studio.unseen=0",
    "studio.volunteers=0",
    "studio.seconds=0.8",
    "studio.size=64",
    "preparation.crops.size=64",
    "preparation.quality.minimum_frames=5",
    "preparation.quality.minimum_face_pixels=5",
    "preparation.quality.minimum_sharpness=0",
    "preparation.faces.tracker=truth",
    "training.vae.steps=1",
    "training.pretraining.steps=1",
    "training.pretraining.speech_steps=1",
    "training.pretraining.batch_size=1",
    "training.backbone.window=4",
    "workers=1",
]
DEALT = ["preparation.partition.by=dirichlet", "preparation.partition.clients=2"]


def prepare(data: Path, *more: str) -> list[dg.AssetMaterialization]:
    """The whole preparation in one run over all buckets, what is unchanged kept; what it says of each bucket."""
    keys = client_buckets.get_partition_keys()
    settings = {"profile": "small", "overrides": read_overrides([f"data={data}", *TINY, *more]), "keep": True}
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def(PREPARE).execute_in_process(
            instance=instance,
            run_config={"resources": {"run": {"config": settings}}},
            tags={"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]},
        )
    assert result.success
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks == dict.fromkeys(("splits_disjoint", "dealt_once", "few_clips_refused", "shards_whole"), True)
    return [event for name in ("crops", "shards") for event in result.asset_materializations_for_node(name)]


def one_bucket(data: Path, asset: dg.AssetsDefinition, key: str) -> dg.ExecuteInProcessResult:
    """A click on one partition: it always does the work."""
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [asset],
            instance=instance,
            partition_key=key,
            resources={"run": RunResource(profile="small", overrides=read_overrides([f"data={data}", *TINY]))},
        )


def public_training(data: Path, *more: str, keep: bool = True) -> dg.ExecuteInProcessResult:
    run = RunResource(profile="small", overrides=read_overrides([f"data={data}", *TINY, *more]), keep=keep)
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize([rulers, backbone], instance=instance, resources={"run": run})


def stamps(data: Path, pattern: str) -> dict[str, int]:
    root = data / "tiny"
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in sorted(root.glob(pattern))}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dg.AssetMaterialization]]:
    data = tmp_path_factory.mktemp("data")
    return data, prepare(data)


def test_a_bucket_is_the_same_wherever_it_is_asked_for() -> None:
    assert [bucket_of(name, 16) for name in ("c0000", "p0001")] == [10, 9]
    names = [f"c{number:04d}" for number in range(1000)]
    parts = by_bucket(names, 16)
    assert sorted(name for part in parts for name in part) == names
    assert all(bucket_of(name, 16) == place for place, part in enumerate(parts) for name in part)
    assert min(map(len, parts)) > 30 and max(map(len, parts)) < 100
    # A newcomer moves nobody.
    assert [[name for name in part if name != "new"] for part in by_bucket([*names, "new"], 16)] == parts


@pytest.mark.slow
def test_one_run_covers_every_partition_and_tells_of_each(made: tuple[Path, list[dg.AssetMaterialization]]) -> None:
    _, events = made
    assert len(events) == 2 * BUCKETS
    assert {event.partition for event in events} == set(client_buckets.get_partition_keys())
    said = [event.metadata for event in events if event.asset_key == dg.AssetKey("crops")]
    assert sum(metadata["crops"].value for metadata in said) == 7
    assert sum(metadata["people"].value for metadata in said) == 5
    assert sum("data:image/jpeg" in str(metadata["faces"].value) for metadata in said) >= 1
    said = [event.metadata for event in events if event.asset_key == dg.AssetKey("shards")]
    assert sum(metadata["samples"].value for metadata in said) == 7


@pytest.mark.slow
def test_one_bucket_alone_is_made_again_and_the_rest_is_kept(
    made: tuple[Path, list[dg.AssetMaterialization]], capfd: pytest.CaptureFixture[str]
) -> None:
    data, _ = made
    folder = RunFolder(data / "tiny")
    bucket = bucket_of("c0000", BUCKETS)
    others = [name for name in load_clients(folder.clients_table) if bucket_of(name, BUCKETS) != bucket]
    assert others
    crops_before, shards_before = stamps(data, "clients/*/crops/*"), stamps(data, "clients/*/shards/*")
    records = read_records(folder)
    (folder.crops("c0000") / "00001.json").unlink()
    (folder.crops(others[0]) / "00001.json").unlink()
    (folder.shards("c0000") / "index.json").unlink()

    assert one_bucket(data, crops, f"{bucket:03d}").success
    assert one_bucket(data, shards, f"{bucket:03d}").success
    again = stamps(data, "clients/*/crops/*")
    changed = {path.split("/")[1] for path in crops_before if again.get(path) != crops_before[path]}
    assert changed == {"c0000", others[0]}
    assert f"clients/{others[0]}/crops/00001.json" not in again
    rewritten = stamps(data, "clients/*/shards/*")
    assert {path.split("/")[1] for path in shards_before if rewritten[path] != shards_before[path]} == {"c0000"}

    # The whole is due, because another bucket's crop is missing; it makes that one, and comes to the same version.
    capfd.readouterr()
    prepare(data)
    printed = capfd.readouterr().err
    assert "crops: 1/1 clips" in printed or "crops: 1 clips" in printed
    assert "vae: unchanged, kept" in printed and "shards: unchanged, kept" in printed
    assert {name: record.version for name, record in read_records(folder).items()} == {
        name: record.version for name, record in records.items()
    }


@pytest.mark.slow
def test_a_damaged_shard_fails_the_blocking_check(made: tuple[Path, list[dg.AssetMaterialization]]) -> None:
    data, _ = made
    run = open_run(load("small", [f"data={data}", *TINY]), keep=True)
    assert shards_whole(run=run).passed
    path = next(run.folder.shards("c0001").glob("*.tar"))
    good = path.read_bytes()
    try:
        path.write_bytes(good[:-512])
        check = shards_whole(run=run)
        assert not check.passed and "c0001" in (check.description or "")
    finally:
        path.write_bytes(good)


@pytest.mark.slow
def test_another_dealing_redoes_dealing_and_shards_alone(
    made: tuple[Path, list[dg.AssetMaterialization]], capfd: pytest.CaptureFixture[str]
) -> None:
    data, _ = made
    folder = RunFolder(data / "tiny")
    crops_before = stamps(data, "clients/*/crops/*")
    prepare(data)
    capfd.readouterr()
    assert public_training(data, keep=False).success
    for model in ("vae", "rulers/opening", "rulers/identity", "backbone"):
        assert "| public speakers | 3 |" in (folder.model(model) / "README.md").read_text()
    assert capfd.readouterr().err.count(": done in") == 2
    for settings, due in (
        ([*DEALT, "preparation.partition.alpha=0.3"], True),
        ([*DEALT, "preparation.partition.alpha=0.3"], False),
        ([*DEALT, "preparation.partition.alpha=30", "preparation.partition.clusters=1"], True),
        ([], True),
    ):
        capfd.readouterr()
        prepare(data, *settings)
        printed = capfd.readouterr().err
        kept = ["corpus", "manifest", "clients", "crops", "vae"]
        assert all(f"{stage}: unchanged, kept" in printed for stage in kept)
        assert ("dealing: done" in printed) == due and ("dealing: unchanged" in printed) != due
        clients = of_role(load_clients(folder.clients_table), "client")
        assert clients == (["d0000", "d0001"] if settings else ["c0000", "c0001"])
        indices = [json.loads(path.read_text()) for path in folder.root.glob("clients/*/shards/index.json")]
        assert sum(index["samples"] for index in indices) == 7
        # What public people alone decide is not trained again for other clients.
        capfd.readouterr()
        assert public_training(data, *settings).success
        assert capfd.readouterr().err.count("unchanged, kept") == 2
        assert {index["client"] for index in indices} == {*clients, "p0000", "p0001", "p0002"}
    assert stamps(data, "clients/*/crops/*") == crops_before


@pytest.mark.slow
def test_the_client_report_shows_its_charts(
    made: tuple[Path, list[dg.AssetMaterialization]], capfd: pytest.CaptureFixture[str]
) -> None:
    data, _ = made
    for printed in ("done in", "unchanged, kept"):
        capfd.readouterr()
        run = RunResource(profile="small", overrides=read_overrides([f"data={data}", *TINY]), keep=printed != "done in")
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize([client_report], instance=instance, resources={"run": run})
        assert f"client_report: {printed}" in capfd.readouterr().err
        (event,) = result.asset_materializations_for_node("client_report")
        said = {name: str(value.value) for name, value in event.metadata.items()}
        assert "4 clips" in said["sizes"]
        for chart in ("sizes", "distances"):
            assert said[f"chart of {chart}"].startswith(f"![client_{chart}](data:image/png;base64,")
    assert load_client_report(RunFolder(data / "tiny").client_report).clips == 4
