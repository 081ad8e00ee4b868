"""An adapter and the records of the rounds that made it live and die together."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from common.errors import PrivFedTalkError
from common.folders import ADAPTER_RECORD, RunFolder
from evaluation.results.card import card_figures
from preparation.clients.consent import Consent, write_consent
from preparation.clients.roles import Client, save_clients
from preparation.shards.store import write_shards
from tests.training.small_federation import CLIENTS, sample_for, save_public, whole_settings
from tests.training.small_models import small_backbone
from training.adapters import adapter as adapter_module
from training.adapters.adapter import Adapter
from training.adapters.folders import export_adapter, inspect_adapter
from training.adapters.membership import Contained, counted_in_release, models_with, revoked_in
from training.federation.client.training import ClientTrainer
from training.generation.talker import GLOBAL, adapter_folder
from training.model.backbones.tiny import TinyBackbone
from training.pipeline import federate
from training.settings import AdapterSettings, ExecutionSettings, TrainingSettings
from training.settings.rounds import AvailabilitySettings

METHOD, DAY = "fedavg", datetime.date(2026, 1, 1)


def settings_of(**federation: object) -> TrainingSettings:
    whole = whole_settings()
    update = {"rounds": 1, "local_steps": 1, "personalisation_steps": 1, **federation}
    changed = whole.federation.model_copy(update=update)
    return whole.model_copy(update={"federation": changed, "execution": ExecutionSettings(engine="here")})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Three clients in one round, each with an adapter of its own beside the shared one."""
    run = RunFolder(tmp_path_factory.mktemp("trained") / "run")
    table = save_public(run, small_backbone())
    for client in CLIENTS:
        write_shards(run.client(client), [sample_for(client, i, s) for i, s in enumerate(("train", "validation"))])
        table[client] = Client("client", client, {"train": [], "validation": [], "test": []})
    save_clients(table, run.clients_table)
    save_clients(table, run.people_table)
    federate(run, METHOD, settings_of(), seed=0, resume=True)
    return run


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(trained.root, tmp_path / "run")
    return RunFolder(tmp_path / "run")


NOBODY_STAYS = settings_of(rounds=2, availability=AvailabilitySettings(after_training=1.0))


def adapters(run: RunFolder) -> list[str]:
    return sorted(str(path.relative_to(run.root)) for path in run.root.glob("**/adapter*") if path.is_dir())


def test_a_retraining_that_comes_to_nothing_leaves_no_adapter_of_before(run: RunFolder, tmp_path: Path) -> None:
    """Or else it would be used, and nobody could say any more who is in it."""
    write_consent(run, "c0", Consent(who="Ada", granted=DAY, revoked=DAY))
    assert len(adapters(run)) == 4 and revoked_in(run, METHOD) == ["c0"]
    with pytest.raises(PrivFedTalkError, match="none of the 2 rounds"):
        federate(run, METHOD, NOBODY_STAYS, seed=0, resume=True)
    assert adapters(run) == [] and models_with(run, "c1") == []
    assert not (run.federation(METHOD) / "privacy.json").exists() and not run.participation(METHOD).exists()
    for name in ("global", "c1"):
        with pytest.raises(PrivFedTalkError, match="holds no adapter"):
            adapter_folder(run, METHOD, name)


@pytest.mark.parametrize("resume", [True, False])
def test_a_retraining_that_is_interrupted_leaves_no_adapter_of_before(
    run: RunFolder, resume: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_consent(run, "c2", Consent(who="Cyd", granted=DAY, revoked=DAY))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ClientTrainer, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        federate(run, METHOD, settings_of(), seed=1, resume=resume)
    assert adapters(run) == []
    assert json.loads(run.participants(METHOD).read_text())["clients"] == ["c0", "c1"]


def test_further_rounds_of_the_same_federation_leave_the_adapter_until_they_are_done(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = json.loads((run.adapter(METHOD) / ADAPTER_RECORD).read_text())["federation"]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ClientTrainer, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            federate(run, METHOD, settings_of(rounds=2), seed=0, resume=True)
    assert adapter_folder(run, METHOD, "c1") == run.client_adapter("c1", METHOD)
    federate(run, METHOD, settings_of(rounds=2), seed=0, resume=True)
    facts = inspect_adapter(adapter_folder(run, METHOD, GLOBAL), run).recorded
    assert (facts["federation"], facts["round"]) == (made, "2")
    assert counted_in_release(run, METHOD) == set(CLIENTS)


def refused_everywhere(run: RunFolder, tmp_path: Path, said: str, name: str = "global") -> None:
    folder = run.adapter(METHOD) if name == "global" else run.client_adapter(name, METHOD)
    with pytest.raises(PrivFedTalkError, match=said):
        adapter_folder(run, METHOD, name)
    with pytest.raises(PrivFedTalkError, match=said):
        export_adapter(run, folder, tmp_path / "out", card_figures)
    assert not (tmp_path / "out").exists()


def test_an_adapter_beside_another_federations_rounds_is_not_used_and_may_contain_anybody(
    run: RunFolder, tmp_path: Path
) -> None:
    name = run.federation(METHOD) / "checkpoint" / "federation.json"
    name.write_text(json.dumps(json.loads(name.read_text()) | {"name": "0" * 16}))
    refused_everywhere(run, tmp_path, "the rounds in .* are of federation 0000000000000000")
    with pytest.raises(PrivFedTalkError, match="is not used"):
        counted_in_release(run, METHOD)
    write_consent(run, "c0", Consent(who="Ada", granted=DAY, revoked=DAY))
    assert revoked_in(run, METHOD) == ["c0"]
    run.rounds(METHOD).write_text("")
    assert models_with(run, "c0")[0] == Contained(METHOD, f"federation/{METHOD}/adapter", own=False, rounds=0)
    assert models_with(run, "p0") == [], "who is public is in no adapter"
    run.rounds(METHOD).unlink()
    assert revoked_in(run, METHOD) == ["c0"]


def test_what_an_earlier_version_left_beside_abandoned_rounds_is_known_by_its_round(
    run: RunFolder, tmp_path: Path
) -> None:
    """Its record names no federation."""
    facts = json.loads((run.adapter(METHOD) / ADAPTER_RECORD).read_text())
    older = {key: value for key, value in facts.items() if key not in ("federation", "theta_sha256")}
    (run.adapter(METHOD) / ADAPTER_RECORD).write_text(json.dumps(older))
    assert adapter_folder(run, METHOD, GLOBAL) == run.adapter(METHOD)
    line = json.loads(run.rounds(METHOD).read_text())
    run.rounds(METHOD).write_text(json.dumps(line | {"outcome": "aborted", "returned": []}) + "\n")
    refused_everywhere(run, tmp_path, "no rounds up to there that moved an adapter")


def test_a_clients_own_adapter_that_began_from_another_shared_one_is_not_used(run: RunFolder, tmp_path: Path) -> None:
    facts = run.client_adapter("c1", METHOD) / ADAPTER_RECORD
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"begun_from": "0" * 64}))
    write_consent(run, "c1", Consent(who="Ben", granted=DAY))
    refused_everywhere(run, tmp_path, "fitted from another shared adapter", "c1")
    assert adapter_folder(run, METHOD, "c2") == run.client_adapter("c2", METHOD)


def test_of_where_it_was_made_nothing_travels(run: RunFolder, tmp_path: Path) -> None:
    export_adapter(run, run.adapter(METHOD), tmp_path / "out", card_figures)
    assert not {"federation", "theta_sha256"} & json.loads((tmp_path / "out" / ADAPTER_RECORD).read_text()).keys()


def test_an_adapter_is_replaced_whole_or_not_at_all(
    backbone: TinyBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New weights never lie beside the record, and the promise, of those before."""
    adapter = Adapter(backbone, AdapterSettings(rank=2), seed=0)
    theta = np.random.default_rng(0).normal(0, 0.1, len(adapter)).astype(np.float32)
    adapter.save(tmp_path / "adapter", theta, {"method": METHOD, "privacy": "before"})
    before = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(adapter_module, "adapter_card", interrupted)
    with pytest.raises(KeyboardInterrupt):
        adapter.save(tmp_path / "adapter", 2 * theta, {"method": METHOD, "privacy": "after"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
