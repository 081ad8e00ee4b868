"""Checks a run's privacy report against the signed records of its rounds: a report is a file, and files can be wrong.

ε is computed again from what the records say the rounds used, never from the report's own figures, and every figure of
the report that affects ε is compared with the records.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from common.files import read_json_lines
from common.folders import ADAPTER_RECORD, RunFolder
from training.adapters.membership import participants
from training.claims.account import entries_of, together
from training.claims.report import RULES
from training.claims.violations import violations
from training.federation.server.checkpoint import RoundRecord
from training.privacy.accounting.conditions import delta_violations, settings_violations
from training.privacy.accounting.guarantee import (
    LARGEST_MEANINGFUL_EPSILON,
    Together,
    epsilon_towards_clients,
    epsilons,
)
from training.privacy.accounting.ledger import Ledger
from training.privacy.accounting.promise import schedule_in, settings_in
from training.privacy.accounting.schedule import Schedule
from training.privacy.mechanisms.release import vector_norm_bound
from training.settings.privacy import PrivacySettings


def contradictions_of(run: RunFolder, method: str) -> list[str]:
    """Claims in a method's report, or beside its adapter's weights, that its records contradict; empty where none."""
    report = json.loads((run.privacy(method)).read_text(encoding="utf-8"))
    lines = read_json_lines(run.rounds(method))
    if report.get("rules", 1) < RULES:
        found = ["a guarantee is claimed under rules that did not hold"] if report["guarantee_holds"] else []
    else:
        ledger = Ledger(run.ledger)
        objection = ledger.key.objection(lines)
        found = [f"rounds.jsonl: {objection}"] if objection else []
        records = [RoundRecord(**line) for line in lines]
        name = json.loads(run.participation(method).read_text(encoding="utf-8"))["federation"]
        joint = together(
            entries_of(Ledger(run.ledger, run.client_ledger), participants(run, method), name), report["delta"]
        )
        found += contradictions(method, report, records, joint)
    mark = json.loads((run.adapter(method) / ADAPTER_RECORD).read_text(encoding="utf-8")).get("privacy")
    if mark != report["mark"]:
        found.append(f"the adapter says {mark!r} where its report says {report['mark']!r}")
    return found


def contradictions(
    method: str, report: Mapping[str, Any], records: Sequence[RoundRecord], joint: Together | None = None
) -> list[str]:
    """Claims of `report` (the content of privacy.json) that the records contradict; empty where every claim holds.

    joint: the cost of all releases on the same clients by the ledger.
    """
    if not records:
        return ["there is no record of any round"]
    if unknown := [record.round for record in records if not record.mechanism]:
        return [f"round {unknown[0]} does not say what it used: it was run under rules that did not hold"]
    found = _other_figures(report, records)
    used = records[-1].mechanism
    settings, schedule = settings_in(used), _schedule(used, records)
    delta = float(used["delta"])
    if schedule.rounds != report["rounds"]:
        found.append(f"the records have {schedule.rounds} rounds that count, the report has {report['rounds']}")
    broken = (
        *settings_violations(settings),
        *delta_violations(settings, schedule.clients),
        *violations(method, settings, schedule, records),
    )
    found += [f"not reported: {sentence}" for sentence in broken if sentence not in report["violations"]]
    release, server = epsilons(settings, schedule, used["dimension"], delta)
    client = epsilon_towards_clients(settings, schedule, used["dimension"], delta)
    joint_epsilon = release.value
    if joint is not None and joint.releases > 1:
        joint_epsilon = joint.bound
    reported = {**report, "epsilon_together": report["together"]["epsilon"]}
    values = {"release": release.value, "server": server.value, "client": client.value, "together": joint_epsilon}
    for reader, value in values.items():
        name = f"epsilon_{reader}"
        claimed = math.inf if reported[name] is None else reported[name]
        if claimed < value * (1 - 1e-6):
            found.append(f"{name} is {claimed:.4g} in the report, and {value:.4g} by its accountant")
    if report["guarantee_holds"] and (broken or report["violations"]):
        found.append("a guarantee is claimed although a rule was broken")
    if report["private"] and (broken or report["violations"] or joint_epsilon > LARGEST_MEANINGFUL_EPSILON):
        found.append("the run is called private, which it is not")
    return found


def _schedule(used: Mapping[str, Any], records: Sequence[RoundRecord]) -> Schedule:
    """The schedule that the recorded rounds followed, as in `training.federation.server.spending.schedule_of`."""
    counted = sum(record.opened for record in records) if used["sampling"] == "full" else len(records)
    reopened = sum(len(record.reopened) for record in records)
    return schedule_in(used, counted, reopened, not any(record.near_abort for record in records))


def _other_figures(report: Mapping[str, Any], records: Sequence[RoundRecord]) -> list[str]:
    """Figures of the report that differ from those in the rounds' records."""
    found = []
    for record in records:
        used = record.mechanism
        settings = settings_in(used)
        claimed = {
            "clients": used["clients"],
            "clients_per_round": used["per_round"],
            "sampling": used["sampling"],
            "dimension": used["dimension"],
            "delta": used["delta"],
            "mode": settings.mode,
            "noise_multiplier": 0.0 if settings.mode == "none" else settings.noise_multiplier,
            "clip_norm": settings.clip_norm,
            "max_participation": settings.max_participation,
            "secure_aggregation": settings.secure_aggregation,
            "seeded_noise": settings.seeded_noise is not None,
        } | {f"settings.{name}": value for name, value in used["settings"].items()}
        reported = {**report, **{f"settings.{name}": value for name, value in report["settings"].items()}}
        found += [
            f"{name} is {reported.get(name)} in the report, and round {record.round} used {value}"
            for name, value in claimed.items()
            if reported.get(name) != value
        ]
        if not _noise_fits(settings, record):
            found.append(f"round {record.round} added noise of another size than its settings say")
        if found:
            break
    return found


def _noise_fits(settings: PrivacySettings, record: RoundRecord) -> bool:
    """Whether the round's noise had a deviation of at least z times the sensitivity."""
    if not settings.has_proof:
        return True
    least = settings.noise_multiplier * vector_norm_bound(settings, record.clip_norm)
    return bool(record.mechanism["noise_deviation"] >= least * (1 - 1e-9))
