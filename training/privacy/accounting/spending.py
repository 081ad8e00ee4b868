"""What rounds cost in privacy, under the sampling that was really used and counting all that may have been seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from training.federation.checkpoint import RoundRecord
from training.privacy.accounting.cohorts import expected_cohort, participation, takes_everybody
from training.privacy.accounting.epsilon import Epsilon, Release, Schedule, epsilon_together
from training.privacy.accounting.guarantee import Together, epsilons
from training.privacy.accounting.ledger import Entry, Ledger
from training.privacy.accounting.promise import release_in
from training.privacy.claims.report import PrivacyReport, finite, privacy_report
from training.privacy.claims.violations import violations
from training.settings import TrainingSettings


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


def account(
    method: str,
    settings: TrainingSettings,
    clients: int,
    records: Sequence[RoundRecord],
    dimension: int,
    ledger: Sequence[Entry] = (),
    unit: str = "person",
) -> PrivacyReport:
    """The report of the rounds that were run. `ledger` has all federations on the same clients so far, this one too,
    `unit` says what one client is."""
    schedule = schedule_of(settings, clients, records)
    return privacy_report(
        settings.privacy,
        schedule,
        dimension,
        violations=violations(method, settings.privacy, schedule, records),
        events=_events(records),
        clip_norms=tuple(record.clip_norm for record in records),
        together=together(ledger, settings.privacy.target_delta(clients)),
        unit=unit,
    )


def together(entries: Sequence[Entry], delta: float) -> Together:
    """What all federations with a promise have cost the client who was in most of them, and which promised nothing."""
    promised = [entry for entry in entries if entry.promise is not None]
    costs: dict[frozenset[str], Epsilon] = {}
    for client in {client for entry in promised for client in entry.clients}:
        those = [entry for entry in promised if client in entry.clients]
        names = frozenset(entry.federation for entry in those)
        if names not in costs:
            costs[names] = epsilon_together([_release(entry) for entry in those], delta)
    names, worst = max(costs.items(), key=lambda cost: cost[1].value, default=(frozenset(), Epsilon(0.0, "")))
    without = sorted({entry.method for entry in entries if entry.promise is None})
    return Together(finite(worst.value), worst.accountant, len(names), tuple(without))


def entries_of(ledger: Ledger, clients: Iterable[str], until: str | None = None) -> list[Entry]:
    """The federations, in this run and in those that clients' own ledgers tell of, that used clips of `clients`."""
    wanted, entries = set(clients), ledger.entries(until)
    known = {entry.federation for entry in ledger.entries()}
    others = [entry for client in sorted(wanted) for entry in ledger.brought_along(client, known)]
    return [entry for entry in (*entries, *others) if wanted & set(entry.clients)]


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


def _release(entry: Entry) -> Release:
    assert entry.promise is not None, "only federations with a promise are composed"
    rounds = entry.opened if entry.promise["sampling"] == "full" else entry.drawn
    return release_in(entry.promise, rounds, amplifies=not entry.near)


def _events(records: Sequence[RoundRecord]) -> tuple[str, ...]:
    """Sentences about rounds that did not end as planned."""
    told = []
    if taken_back := sum(record.outcome == "rolled back" for record in records):
        told.append(f"{taken_back} rounds were taken back after their sum was seen; they are counted like the others.")
    if reopened := sum(len(record.reopened) for record in records):
        told.append(
            f"{reopened} sums may have been opened before the run was interrupted and lost them; they are counted too."
        )
    if abandoned := sum(record.outcome == "aborted" for record in records):
        told.append(
            f"{abandoned} rounds were abandoned before anything was opened, because too few clients were left; who "
            "drops out must not depend on what clients hold."
        )
    if any(record.near_abort for record in records):
        told.append(
            "Some round opened, or did not, by one client more or fewer in its cohort, which tells of who was drawn: "
            "no amplification by sampling is claimed."
        )
    return tuple(told)
