"""Whether a run's privacy report says what its records say: a report is a file, and files can be wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from preparation.folders import RunFolder
from training.checkpoint import RoundRecord
from training.privacy.accounting import Schedule
from training.privacy.guarantee import LARGEST_MEANINGFUL_EPSILON, epsilons
from training.privacy.report import settings_violations
from training.privacy.settings import PrivacySettings
from training.sampling import participation
from training.violations import violations


def contradictions_of(run: RunFolder, method: str) -> list[str]:
    """What is claimed of a method's adapter, in its report or beside its weights, and does not hold."""
    report = json.loads((run.federation(method) / "privacy.json").read_text())
    records = [RoundRecord(**json.loads(line)) for line in run.rounds(method).read_text().splitlines()]
    found = contradictions(method, report, records)
    mark = json.loads((run.adapter(method) / "privfedtalk.json").read_text()).get("privacy")
    if mark != report["mark"]:
        found.append(f"the adapter says {mark!r} where its report says {report['mark']!r}")
    return found


def contradictions(method: str, report: Mapping[str, Any], records: Sequence[RoundRecord]) -> list[str]:
    """What `report` (the content of privacy.json) claims and must not; empty where every claim holds.

    Epsilon is computed again from the report's own figures; the figures are compared with the rounds that were run.
    """
    settings = PrivacySettings.model_validate(report["settings"])
    schedule = Schedule(
        report["clients"],
        report["clients_per_round"],
        report["rounds"],
        report["sampling"],
        report["max_participation"],
    )
    found = []
    ran = sum(record.opened for record in records) if schedule.sampling == "full" else len(records)
    most = max(participation(records).values(), default=0)
    if ran != schedule.rounds:
        found.append(f"{ran} rounds count and {schedule.rounds} are accounted for")
    if most > report["participation"]:
        found.append(f"a client took part {most} times and {report['participation']} are accounted for")
    broken = (*settings_violations(settings), *violations(method, settings, schedule, records))
    found += [f"not told: {sentence}" for sentence in broken if sentence not in report["violations"]]
    release, server = epsilons(settings, schedule, report["dimension"], report["delta"], report["participation"])
    for name, epsilon in (("epsilon_release", release), ("epsilon_server", server)):
        told = math.inf if report[name] is None else report[name]
        if told < epsilon.value * (1 - 1e-6):
            found.append(f"{name} is {told:.4g} in the report, and {epsilon.value:.4g} by its accountant")
    if report["guarantee_holds"] and (broken or report["violations"]):
        found.append("a guarantee is claimed although a rule was broken")
    if report["private"] and (broken or report["violations"] or release.value > LARGEST_MEANINGFUL_EPSILON):
        found.append("the run is called private, which it is not")
    return found
