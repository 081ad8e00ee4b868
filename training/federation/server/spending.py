"""The ε that a federation's rounds have cost so far, under the sampling that was used."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from common.errors import PrivFedTalkError
from training.federation.methods import named
from training.federation.server.checkpoint import RoundRecord
from training.federation.server.cohorts import expected_cohort, participation, takes_everybody
from training.privacy.accounting.conditions import settings_violations
from training.privacy.accounting.epsilon import finite
from training.privacy.accounting.guarantee import epsilons
from training.privacy.accounting.schedule import Schedule
from training.settings import TrainingSettings


def promise_of(method: str, settings: TrainingSettings) -> tuple[bool, str]:
    """Whether the method under these settings gives its clients a guarantee, and if not, why."""
    own = named(method).no_promise
    reasons = ((own,) if own else ()) + settings_violations(settings.privacy)
    return not reasons, reasons[0] if reasons else ""


def planned_schedule(settings: TrainingSettings, clients: int) -> Schedule:
    """The schedule that the settings plan for `clients` clients."""
    federation = settings.federation
    everybody = takes_everybody(clients, federation)
    return Schedule(
        clients=clients,
        per_round=expected_cohort(clients, federation),
        rounds=federation.rounds,
        sampling="full" if everybody else federation.sampling,
        max_participation=settings.privacy.max_participation,
    )


def schedule_of(settings: TrainingSettings, clients: int, records: Sequence[RoundRecord]) -> Schedule:
    """The schedule that `records` followed.

    A round that was rolled back counts, since its sum was seen; so does each attempt that was interrupted when its sum
    was about to be opened. An aborted or empty round revealed nothing: if all clients take part in every round, it
    costs nothing. If clients are sampled it counts all the same, since the theorems count every round that is drawn.
    They assume that no single client decides whether a round opens; if one did in some round, sampling amplifies
    nothing.
    """
    planned = planned_schedule(settings, clients)
    reopened = sum(len(record.reopened) for record in records)
    counted = sum(record.opened for record in records) if planned.sampling == "full" else len(records)
    near = any(record.near_abort for record in records)
    return replace(planned, rounds=counted, amplifies=not near).repeating(reopened)


def epsilon_so_far(
    settings: TrainingSettings, clients: int, records: Sequence[RoundRecord], dimension: int
) -> tuple[float | None, float | None]:
    """ε (release, server) after `records`; None where no finite ε holds. Takes at most half a second.

    The second follows from how often clients really took part, which only the coordinator knows.
    """
    if not settings.privacy.has_proof:
        return None, None
    schedule, privacy = schedule_of(settings, clients, records), settings.privacy
    most = max(participation(records).values(), default=0)
    release, server = epsilons(privacy, schedule, dimension, privacy.target_delta(clients), most)
    return finite(release.value), finite(server.value)


def next_round_fits(
    settings: TrainingSettings, clients: int, records: Sequence[RoundRecord], attempts: int, dimension: int
) -> bool:
    """Whether ε_release stays within `privacy.max_epsilon` if one more round is opened after `records`.

    `attempts` of that round were interrupted, and each may have been seen. The round is assumed to end as planned: one
    in which a single client decides whether the sum is opened takes away the amplification of all, which nobody can
    know before; then no further round is begun.
    """
    spent = schedule_of(settings, clients, records)
    return _fits(settings, replace(spent, rounds=spent.rounds + 1).repeating(attempts), dimension)


def rounds_that_fit(settings: TrainingSettings, clients: int, dimension: int) -> int:
    """How many of the planned rounds `privacy.max_epsilon` allows if each ends as planned."""
    planned = planned_schedule(settings, clients)
    return bisect_left(
        range(1, planned.rounds + 1),
        True,
        key=lambda rounds: not _fits(settings, replace(planned, rounds=rounds), dimension),
    )


def _fits(settings: TrainingSettings, schedule: Schedule, dimension: int) -> bool:
    privacy = settings.privacy
    if privacy.max_epsilon is None or not privacy.has_proof:
        return True
    release, _ = epsilons(privacy, schedule, dimension, privacy.target_delta(schedule.clients))
    return release.value <= privacy.max_epsilon


def too_dear(settings: TrainingSettings) -> PrivFedTalkError:
    """The error where not even the first round fits."""
    return PrivFedTalkError(
        f"the first round alone would exceed privacy.max_epsilon = {settings.privacy.max_epsilon:g}",
        "raise privacy.noise_multiplier or take more clients (privfedtalk privacy plan says how many), or raise "
        "max_epsilon",
    )


def participation_figures(
    settings: TrainingSettings, clients: int, records: Sequence[RoundRecord], dimension: int, federation: str
) -> dict[str, Any]:
    """Figures that only the coordinator may know: the federation's name in the ledger, how often clients took part, and
    the resulting ε towards the server."""
    counts = participation(records)
    _, server = epsilon_so_far(settings, clients, records, dimension)
    rounds = dict(sorted(Counter(counts.values()).items()))
    return {
        "federation": federation,
        "most": max(counts.values(), default=0),
        "clients_by_rounds": rounds,
        "epsilon_server": server,
    }
