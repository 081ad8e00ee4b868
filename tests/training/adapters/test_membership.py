"""Consent in a federation: who sits out, and which models a client is in."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from evaluation.results.card import card_figures
from preparation.clients.consent import Consent, write_consent
from preparation.clients.roles import Client, save_clients
from preparation.shards.store import write_shards
from tests.training.small_federation import CLIENTS, sample_for
from tests.training.small_run import make_run
from training.adapters.folders import export_adapter, import_adapter
from training.adapters.membership import Contained, models_with, revoked_in, save_participants
from training.learning.eligible import trainable_clients

DAY = datetime.date(2026, 1, 1)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    for client in CLIENTS:
        write_shards(folder.client(client), [sample_for(client, i, s) for i, s in enumerate(("train", "validation"))])
    splits = {"train": ["a/1"], "validation": ["a/2"], "test": []}
    save_clients({name: Client("client", name, splits) for name in CLIENTS}, folder.clients_table)
    return folder


def write_rounds(run: RunFolder, method: str, *returned: list[str], outcome: str = "applied") -> None:
    run.adapter(method).mkdir(parents=True)
    lines = [{"returned": names, "outcome": outcome} for names in returned]
    run.rounds(method).write_text("".join(json.dumps(line) + "\n" for line in lines))
    save_participants(run, method, CLIENTS, {})


def test_clients_without_consent_sit_out(run: RunFolder) -> None:
    with pytest.raises(
        PrivFedTalkError, match=r"no client in .* has agreed to training \(c0: not recorded, and 2 others"
    ):
        trainable_clients(run, consent_required=True)
    assert trainable_clients(run, consent_required=False) == CLIENTS
    write_consent(run, "c0", Consent(who="Ada", granted=DAY))
    write_consent(run, "c1", Consent(who="Ben", granted=DAY, revoked=DAY))
    assert trainable_clients(run, consent_required=True) == ["c0"]
    assert trainable_clients(run, consent_required=False) == ["c0", "c2"]


def test_models_that_contain_a_client_are_listed(run: RunFolder) -> None:
    write_rounds(run, "fedavg", ["c0", "c1"], ["c0"])
    write_rounds(run, "scaffold", ["c2"])
    write_rounds(run, "centralized", ["pooled"])
    write_rounds(run, "fedprox", ["c0"], outcome="rolled back")
    run.client_adapter("c1", "local").mkdir(parents=True)
    assert models_with(run, "c0") == [
        Contained("centralized", "federation/centralized/adapter", own=False, rounds=1),
        Contained("fedavg", "federation/fedavg/adapter", own=False, rounds=2),
    ]
    assert models_with(run, "c1")[-1] == Contained("local", "clients/c1/methods/local/adapter", own=True)
    assert revoked_in(run, "fedavg") == []
    write_consent(run, "c1", Consent(who="Ben", granted=DAY, revoked=DAY))
    assert revoked_in(run, "fedavg") == ["c1"]
    assert revoked_in(run, "scaffold") == []


def test_imported_adapters_fitted_to_a_client_are_listed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for source, name in (
        (run.client_adapter("c0000", "privfedtalk"), "theirs"),
        (run.adapter("privfedtalk"), "shared"),
    ):
        export_adapter(run, source, tmp_path / name, card_figures)
        import_adapter(run, tmp_path / name, name)
    assert models_with(run, "c0000") == [
        # The run has no record of rounds: nobody can say who is not in its shared adapter.
        Contained("privfedtalk", "federation/privfedtalk/adapter", own=False, rounds=0),
        Contained("privfedtalk", "clients/c0000/methods/privfedtalk/adapter", own=True),
        Contained("privfedtalk", "imported/theirs", own=True),
    ]
    assert models_with(run, "c1") == []


def test_a_pool_contains_only_who_took_part(run: RunFolder) -> None:
    write_rounds(run, "centralized", ["pooled"])
    save_participants(run, "centralized", ["c0", "c2"], {"c1": "not recorded"})
    assert [models_with(run, client) != [] for client in CLIENTS] == [True, False, True]
