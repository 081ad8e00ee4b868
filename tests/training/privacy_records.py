"""Records of rounds as a federation writes them, and the folder of a method that ran them: for tests of reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from preparation.folders import RunFolder
from training.checkpoint import RoundRecord
from training.settings import FederationSettings, TrainingSettings
from training.spent import account

CLIENTS = [f"c{number}" for number in range(10)]


def settings_with(**privacy: object) -> TrainingSettings:
    """Ten clients, two rounds, all in both; enough noise for a meaningful promise unless told otherwise."""
    default = TrainingSettings()
    update = {"noise_multiplier": 2.0, "clip_norm": 0.5, **privacy}
    return default.model_copy(
        update={"federation": FederationSettings(rounds=2), "privacy": default.privacy.model_copy(update=update)}
    )


def round_record(number: int, **changes: object) -> RoundRecord:
    record = RoundRecord(
        round=number, clients=CLIENTS, survivors=10, public_validation_loss=1.0, weight_sum=5.0, within_clip=0.5,
        score_mean=0.5, update_norm=0.1, clip_norm=0.5, denominator=5.0, bytes_up=1, bytes_down=1, seconds={},
        returned=CLIENTS,
    )  # fmt: skip
    return replace(record, **changes)


def write_method(
    run: RunFolder, method: str, settings: TrainingSettings, records: Sequence[RoundRecord], dimension: int = 1000
) -> dict:
    """What training leaves of a method, but for the weights; the report's content."""
    report = account(method, settings, len(CLIENTS), records, dimension)
    run.adapter(method).mkdir(parents=True)
    facts = {"method": method, "parameters": dimension, "privacy": report.mark}
    (run.adapter(method) / "privfedtalk.json").write_text(json.dumps(facts))
    (run.federation(method) / "privacy.json").write_text(json.dumps(report.to_json()))
    (run.federation(method) / "privacy.md").write_text(report.to_markdown())
    run.rounds(method).write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))
    return json.loads((run.federation(method) / "privacy.json").read_text())
