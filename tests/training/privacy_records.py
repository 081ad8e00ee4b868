"""Records of rounds as a federation writes them, and the folder of a method that ran them: for tests of reports."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from common.folders import RunFolder
from training.adapters.membership import save_participants
from training.claims.account import account, entries_of
from training.federation.server.checkpoint import RoundRecord
from training.federation.server.spending import participation_figures, planned_schedule, promise_of
from training.privacy.accounting.ledger import Entry, Ledger
from training.privacy.accounting.promise import promise
from training.privacy.mechanisms.factory import mechanism_for
from training.settings import FederationSettings, TrainingSettings

CLIENTS = [f"c{number}" for number in range(10)]


def settings_with(**privacy: object) -> TrainingSettings:
    """Ten clients, two rounds, all in both; enough noise for a meaningful promise unless told otherwise."""
    default = TrainingSettings()
    update = {"noise_multiplier": 2.0, "clip_norm": 0.5, **privacy}
    return default.model_copy(
        update={"federation": FederationSettings(rounds=2), "privacy": default.privacy.model_copy(update=update)}
    )


def round_record(number: int, **changes: Any) -> RoundRecord:
    record = RoundRecord(
        round=number, clients=CLIENTS, survivors=10, public_validation_loss=1.0, weight_sum=5.0, within_clip=0.5,
        score_mean=0.5, update_norm=0.1, clip_norm=0.5, denominator=5.0, bytes_up=1, bytes_down=1, seconds={},
        returned=CLIENTS,
    )  # fmt: skip
    return replace(record, **changes)


def using(
    settings: TrainingSettings, records: Sequence[RoundRecord], clients: int = len(CLIENTS), dimension: int = 1000
) -> list[RoundRecord]:
    """The records as rounds under these settings write them: with what each used."""
    used = promise(settings.privacy, planned_schedule(settings, clients), dimension)
    mechanisms = [mechanism_for(settings.privacy, len(record.clients), record.clip_norm) for record in records]
    return [
        replace(record, mechanism={**used, "noise_deviation": mechanism.deviation})
        for record, mechanism in zip(records, mechanisms, strict=True)
    ]


def note_in_ledger(
    ledger: Ledger,
    name: str,
    method: str,
    settings: TrainingSettings,
    records: Sequence[RoundRecord],
    members: Sequence[str] = CLIENTS,
    dimension: int = 1000,
) -> list[Entry]:
    """What a federation of these records leaves in the ledger; all entries up to its end."""
    promised, why = promise_of(method, settings)
    used = promise(settings.privacy, planned_schedule(settings, len(members)), dimension)
    ledger.begins(name, method, members, {**used, "rounds": len(records)} if promised else None, why)
    for record in records if promised else ():
        for attempt, cohort in enumerate((*record.reopened, record.clients), start=1):
            ledger.opens(name, record.round, attempt, cohort)
        ledger.closed(name, record.round, record.outcome, record.near_abort)
    ledger.ended(name)
    return entries_of(ledger, members, name)


def write_method(
    run: RunFolder, method: str, settings: TrainingSettings, records: Sequence[RoundRecord], dimension: int = 1000
) -> dict:
    """What training leaves of a method, but for the weights; the report's content."""
    ledger, name = Ledger(run.ledger, run.client_ledger), secrets.token_hex(4)
    records = using(settings, records, dimension=dimension)
    spent = note_in_ledger(ledger, name, method, settings, records, dimension=dimension)
    report = account(method, settings, len(CLIENTS), records, dimension, spent)
    run.adapter(method).mkdir(parents=True, exist_ok=True)
    save_participants(run, method, CLIENTS, {})
    signed: list[RoundRecord] = []
    for record in records:
        before = signed[-1].signature if signed else ""
        signed.append(replace(record, signature=ledger.key.sign(asdict(record), before)))
    facts = {"method": method, "parameters": dimension, "privacy": report.mark}
    (run.adapter(method) / "privfedtalk.json").write_text(json.dumps(facts))
    (run.federation(method) / "privacy.json").write_text(json.dumps(report.to_json()))
    figures = participation_figures(settings, len(CLIENTS), records, dimension, name)
    run.participation(method).write_text(json.dumps(figures))
    (run.federation(method) / "privacy.md").write_text(report.to_markdown())
    run.rounds(method).write_text("".join(json.dumps(asdict(record)) + "\n" for record in signed))
    return json.loads((run.federation(method) / "privacy.json").read_text())
