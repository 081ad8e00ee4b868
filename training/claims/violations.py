"""Finds the rules of a run's guarantee that its rounds broke; if there is one, a figure of ε means nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from training.federation.methods import named
from training.federation.server.checkpoint import RoundRecord
from training.federation.server.cohorts import participation
from training.privacy.accounting.schedule import Schedule
from training.privacy.mechanisms.release import adapted_clip_norm
from training.settings.privacy import PrivacySettings


def violations(
    method: str, settings: PrivacySettings, schedule: Schedule, records: Sequence[RoundRecord]
) -> tuple[str, ...]:
    """One sentence for each rule that the rounds broke; `settings_violations` has what the settings alone break."""
    found = [rule.no_promise] if (rule := named(method)).no_promise else []
    if not settings.has_proof:
        return tuple(found)
    opened = [record for record in records if record.opened and record.clients]
    if few := [r.round for r in opened if r.survivors < settings.minimum_survivors(len(r.clients))]:
        found.append(f"{_rounds(few)} opened with fewer clients than the noise was made for.")
    if many := [r.round for r in opened if schedule.sampling == "fixed" and len(r.clients) > schedule.per_round]:
        found.append(f"{_rounds(many)} took more than the {schedule.per_round} clients that are accounted for.")
    if schedule.sampling == "allocation" and (twice := _twice_in_a_block(opened, schedule.block_length)):
        found.append(f"{_rounds(twice)} took a client that an earlier round of the same block had taken.")
    known = [r.round for r in records if settings.secret_coins and not r.mechanism.get("secret_cohorts", True)]
    if known and schedule.draws:
        found.append(f"{_rounds(known)} drew the cohort from a known seed: who was drawn is no secret.")
    unclipped = [r.round for r in opened if "unclipped" in r.simulation.get("faults", {}).values()]
    if unclipped:
        found.append(f"{_rounds(unclipped)} had a client that did not clip: its part is not bounded.")
    if moved := _unpaid_clipping(settings, records):
        found.append(
            f"{_rounds(moved)} had a clipping norm that does not follow from the settings and the noisy shares of "
            "earlier rounds, which are all that the budget pays for."
        )
    most, cap = max(participation(records).values(), default=0), settings.max_participation
    if cap is not None and most > cap:
        found.append(f"A client took part in {most} rounds where {cap} is the cap.")
    return tuple(found)


def _twice_in_a_block(opened: Sequence[RoundRecord], length: int) -> list[int]:
    """Rounds with a client that was in another round of the same block of `length` rounds before."""
    found, met = [], set[tuple[int, str]]()
    for record in opened:
        now = {((record.round - 1) // length, client) for client in record.clients}
        if now & met:
            found.append(record.round)
        met |= now
    return found


def _unpaid_clipping(settings: PrivacySettings, records: Sequence[RoundRecord]) -> list[int]:
    """Rounds whose C differs from what Andrew et al.'s rule gives from the shares released before."""
    moved, C = [], settings.clip_norm
    for record in records:
        if not math.isclose(record.clip_norm, C, rel_tol=1e-9):
            moved.append(record.round)
        if settings.adaptive_clipping and record.applied and record.within_clip is not None:
            C = adapted_clip_norm(C, record.within_clip, settings)
    return moved


def _rounds(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"Round{'s' * (len(numbers) > 1)} {shown}{' and more' * (len(numbers) > 5)}"
