"""What a run cannot do is said before the first minute is spent, and all of it at once."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from common.weights import registry as weights
from preparation.clients.consent import Consent, write_consent
from preparation.clients.roles import SPLITS, Client, load_clients, save_clients
from preparation.shards.store import Sample, read_shards, write_shards
from tests.training.small_federation import sample_for, save_public, whole_settings
from training.learning.eligible import able_clients
from training.model.backbones.tiny import TinyBackbone
from training.pipeline import federate
from training.readiness import (
    GB,
    NotReadyError,
    _size_lacks,
    check_ready,
    document,
    machine_lacks,
    standings,
    summary,
)
from training.settings import ExecutionSettings, TrainingSettings

WINDOW = 6


def settings_of(**federation: object) -> TrainingSettings:
    whole = whole_settings()
    backbone = whole.backbone.model_copy(update={"window": WINDOW, "width": 16, "depth": 1, "heads": 2})
    changed = whole.federation.model_copy(update={"rounds": 1, "local_steps": 1, **federation})
    update = {"federation": changed, "backbone": backbone, "execution": ExecutionSettings(engine="here")}
    return whole.model_copy(update=update | {"methods": ("fedavg",)})


def add(run: RunFolder, name: str, *splits: str, frames: int = 12, role: str = "client") -> None:
    """Somebody with a clip of so many frames for each of the splits."""
    samples = [shortened(sample_for("c0", number, split), name, frames) for number, split in enumerate(splits)]
    write_shards(run.client(name), samples)
    placed = {split: [one.clip_id for one in samples if one.split == split] for split in SPLITS}
    table = load_clients(run.clients_table) if run.clients_table.exists() else {}
    table[name] = Client(role, name, placed)  # type: ignore[arg-type]
    for path in (run.clients_table, run.people_table):
        save_clients(table, path)


def shortened(sample: Sample, name: str, frames: int) -> Sample:
    assert sample.motion is not None
    return replace(
        sample,
        client=name,
        clip_id=f"{name}/{sample.key}",
        latents=sample.latents[:frames],
        speech=sample.speech[:frames],
        landmarks=sample.landmarks[:frames],
        motion=sample.motion[:frames],
    )


@pytest.fixture
def run(tmp_path: Path, backbone: TinyBackbone) -> RunFolder:
    """Two public speakers to train on and one held out, and three clients with three clips each."""
    run = RunFolder(tmp_path / "run")
    save_clients(save_public(run, backbone), run.clients_table)
    add(run, "p0", "validation", role="public")
    for name in ("p1", "p2"):
        add(run, name, "train", role="public")
    for name in ("anna", "bela", "cleo"):
        add(run, name, "train", "validation", "test")
    return run


def test_a_run_that_has_everything_is_ready(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    check_ready(run, settings_of())
    assert capsys.readouterr().err == ""
    assert summary(standings(run, settings_of())) == ["of 3 clients 3 can train, 3 can be validated, 3 can be tested"]


def test_everything_that_is_missing_is_said_at_once(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(run.root / "nowhere"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(run.root / "cache"))
    table = load_clients(run.clients_table)
    for path in (run.clients_table, run.people_table):
        save_clients({name: entry for name, entry in table.items() if name not in ("p0", "p2")}, path)
    add(run, "p1", "train", frames=WINDOW - 1, role="public")
    for name in ("anna", "bela", "cleo"):
        add(run, name, "train")
    settings = settings_of()
    objective = settings.objective
    identity = objective.identity.model_copy(update={"network": "mobilefacenet", "weight": 0.1})
    settings = settings.model_copy(update={"objective": objective.model_copy(update={"identity": identity})})
    execution = settings.execution.model_copy(update={"devices": ("cuda:77",)})
    with pytest.raises(NotReadyError) as error:
        check_ready(run, settings.model_copy(update={"execution": execution}))
    said, remedy = error.value.reason, error.value.remedy
    assert said.startswith("training cannot begin, 6 things are missing:")
    for part in (
        "the identity term of the local objective has no network",
        "execution.devices names cuda:77",
        "1 public speaker with a usable clip to train on",
        "no public speaker is held out for validation",
        "no clip for train is as long as a window of 6 frames (the longest has 5)",
        "none of the 3 clients can train: anna, bela, cleo: no usable clip to validate with",
    ):
        assert part in said
    for part in ("training.objective.identity.network=none", "training.federation.unmeasured=allow", "  6. "):
        assert part in remedy


def test_a_run_without_anything_is_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="is not prepared"):
        check_ready(RunFolder(tmp_path), settings_of())


def test_who_cannot_train_is_named_with_the_remedy(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    add(run, "dora", "train")
    add(run, "ella", "train", "test")
    add(run, "fred", "train", "validation", "test", frames=WINDOW - 1)
    add(run, "gina", "train", "validation")
    nobody = Client("client", "hans", {split: [] for split in SPLITS})
    save_clients(load_clients(run.clients_table) | {"hans": nobody}, run.clients_table)
    day = datetime.date(2026, 1, 1)
    add(run, "ines", "train", "validation", "test")
    write_consent(run, "ines", Consent(who="ines", granted=day, revoked=day))
    (run.shards("ines") / "shard-000000.tar").write_bytes(b"nobody may read this")
    check_ready(run, settings_of())
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "of 9 clients 4 can train, 5 can be validated, 5 can be tested"
    assert any(
        line.startswith("  2 cannot train (dora, ella): no usable clip to validate with; give each at least three")
        and line.endswith("--set training.federation.unmeasured=allow")
        for line in said
    )
    assert any("1 cannot train (fred): no clip for train as long as a window of 6 frames" in line for line in said)
    assert any("1 cannot train (hans): no shards yet; make them: privfedtalk prepare" in line for line in said)
    assert any("1 cannot be tested (gina): no usable clip to test on" in line for line in said)
    assert "ines" not in "\n".join(said), "the consent lines say who has not agreed"
    told = document(standings(run, settings_of()))
    assert (told["train"], told["validation"], told["test"]) == (4, 5, 5)
    rows = {row["client"]: row for row in told["lacking"]}  # type: ignore[attr-defined]
    assert set(rows) == {"dora", "ella", "fred", "gina", "hans", "ines"}
    assert rows["ines"]["train"]["reason"].startswith("no consent to training (revoked on")
    assert "train" not in rows["gina"] and "test" in rows["gina"]


def test_what_the_methods_object_to_is_said_too(run: RunFolder) -> None:
    privacy = settings_of().privacy.model_copy(update={"tolerated_colluders": 3, "noise_multiplier": 0.5})
    settings = settings_of().model_copy(update={"privacy": privacy, "methods": ("privfedtalk",)})
    with pytest.raises(NotReadyError, match=r"privfedtalk: privacy.tolerated_colluders is 3 in a cohort of 3"):
        check_ready(run, settings)


def test_a_machine_that_is_too_small(run: RunFolder) -> None:
    assert list(_size_lacks(run, settings_of(), free_disk=1 * GB, free_memory=1 * GB)) == []
    disk, memory = _size_lacks(run, settings_of(), free_disk=1e6, free_memory=1e3)
    assert "GB are free there" in disk.what and "pretraining the backbone holds" in memory.what
    tight = settings_of(memory_budget_gb=4.0).model_copy(update={"execution": ExecutionSettings(engine="local")})
    assert list(machine_lacks(tight, workers=2, free_bytes=9 * GB)) == []
    (lack,) = machine_lacks(tight, workers=2, free_bytes=7 * GB)
    assert "2 workers of federation.memory_budget_gb 4 may use 8.0 GB, and 7.0 GB of memory are free" in lack.what


@pytest.mark.parametrize("score", ["paper", "speech"])
def test_a_client_with_a_single_clip_trains_without_being_measured_where_that_is_allowed(
    run: RunFolder, score: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its score is one half, whatever its clip; it is named, and the others' updates are as without it."""
    add(run, "dora", "train")
    with pytest.raises(PrivFedTalkError, match="has samples both to train on and to validate with"):
        for name in ("anna", "bela", "cleo"):
            add(run, name, "train")
        able_clients(run)
    for name in ("anna", "bela", "cleo"):
        add(run, name, "train", "validation", "test")
    refused = federate(run, "fedavg", settings_of(score=score), seed=0, resume=False)
    assert "dora" not in refused.records[0].clients
    capsys.readouterr()
    allowed = federate(run, "fedavg", settings_of(score=score, unmeasured="allow"), seed=0, resume=False)
    assert "1 clients train without being measured (dora): they have no usable clip" in capsys.readouterr().err
    noted = json.loads(run.participants("fedavg").read_text())
    assert noted["clients"] == ["anna", "bela", "cleo", "dora"] and noted["unmeasured"] == ["dora"]
    seen = json.loads(run.rounds("fedavg").read_text())["simulation"]["clients"]
    assert seen["dora"]["score"] == 0.5 and seen["dora"]["update_norm"] > 0
    before = refused.records[0]
    assert before.clients == ["anna", "bela", "cleo"] and allowed.records[0].clients == noted["clients"]


def test_nobody_is_measured_and_all_train(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """People with a clip each: ten minutes of pretraining once ended in an error."""
    for name in ("anna", "bela", "cleo"):
        add(run, name, "train")
    with pytest.raises(NotReadyError, match="none of the 3 clients can train"):
        check_ready(run, settings_of())
    allowed = settings_of(unmeasured="allow")
    check_ready(run, allowed)
    assert "3 train without being measured (anna, bela, cleo)" in capsys.readouterr().err
    found = federate(run, "fedavg", allowed, seed=0, resume=False)
    assert found.records[0].clients == ["anna", "bela", "cleo"]
    assert len(list(read_shards(run.client("anna")))) == 1
