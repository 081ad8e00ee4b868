"""What a federation's rounds have cost in ε so far, under the sampling that was really used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from training.federation.methods import named
from training.federation.server.checkpoint import RoundRecord
from training.federation.server.cohorts import expected_cohort, participation, takes_everybody
from training.privacy.accounting.conditions import settings_violations
from training.privacy.accounting.epsilon import Schedule, finite
from training.privacy.accounting.guarantee import epsilons
from training.settings import TrainingSettings


def promise_of(method: str, settings: TrainingSettings) -> tuple[bool, str]:
    """Whether the method under these settings promises anything to its clients, and if not, why."""
    own = named(method).no_promise
    reasons = ((own,) if own else ()) + settings_violations(settings.privacy)
    return not reasons, reasons[0] if reasons else ""


def planned_schedule(settings: TrainingSettings, clients: int) -> Schedule:
    """The schedule that the settings plan for so many clients."""
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

    A round that was taken back has been seen and counts; so does each attempt at a round that was interrupted when it
    was about to be opened. A round that was abandoned, or empty, has shown nothing: where everybody takes part it costs
    nothing. Where clients are sampled it counts all the same, since the theorems are about rounds that are drawn,
    whatever becomes of them. They take for granted that whether a round opens does not hang on one client; where it did
    in some round, nothing is amplified.
    """
    planned = planned_schedule(settings, clients)
    reopened = sum(len(record.reopened) for record in records)
    counted = sum(record.opened for record in records) if planned.sampling == "full" else len(records)
    near = any(record.near_abort for record in records)
    return Schedule(
        planned.clients, planned.per_round, counted + reopened, planned.sampling, planned.max_participation, not near
    )


def epsilon_so_far(
    settings: TrainingSettings, clients: int, records: Sequence[RoundRecord], dimension: int
) -> tuple[float | None, float | None]:
    """(release, server) after `records`, the latter from who really took part, as the coordinator knows it; None where
    no finite one holds. At most half a second."""
    if not settings.privacy.has_proof:
        return None, None
    schedule, privacy = schedule_of(settings, clients, records), settings.privacy
    most = max(participation(records).values(), default=0)
    release, server = epsilons(privacy, schedule, dimension, privacy.target_delta(clients), most)
    return finite(release.value), finite(server.value)


def participation_figures(
    settings: TrainingSettings, clients: int, records: Sequence[RoundRecord], dimension: int, federation: str
) -> dict[str, Any]:
    """What the coordinator alone may know: the federation's name in the ledger, how often clients took part, and ε
    towards the server that follows."""
    counts = participation(records)
    _, server = epsilon_so_far(settings, clients, records, dimension)
    rounds = dict(sorted(Counter(counts.values()).items()))
    return {
        "federation": federation,
        "most": max(counts.values(), default=0),
        "clients_by_rounds": rounds,
        "epsilon_server": server,
    }
