"""The privacy cost of a run's rounds, with the sampling really used and every sum that may have been seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from training.claims.report import PrivacyReport, privacy_report
from training.claims.violations import violations
from training.federation.server.checkpoint import RoundRecord
from training.federation.server.spending import schedule_of
from training.privacy.accounting.epsilon import Epsilon, Release, epsilon_together, finite
from training.privacy.accounting.guarantee import Together
from training.privacy.accounting.ledger import Entry, Ledger
from training.privacy.accounting.promise import release_in
from training.settings import TrainingSettings


def account(
    method: str,
    settings: TrainingSettings,
    clients: int,
    records: Sequence[RoundRecord],
    dimension: int,
    ledger: Sequence[Entry] = (),
    unit: str = "person",
) -> PrivacyReport:
    """The privacy report of the rounds that were run.

    ledger: all federations on the same clients so far, including this one. unit: what one client is, such as a person.
    """
    schedule = schedule_of(settings, clients, records)
    return privacy_report(
        settings.privacy,
        schedule,
        dimension,
        violations=violations(method, settings.privacy, schedule, records),
        events=(*_events(records), *ended_early(settings, records)),
        clip_norms=tuple(record.clip_norm for record in records),
        together=together(ledger, settings.privacy.target_delta(clients)),
        unit=unit,
    )


def together(entries: Sequence[Entry], delta: float) -> Together:
    """The joint ε of all federations with a promise, for the client whom they cost most.

    Its `without_promise` names the methods that promise nothing.
    """
    promised = [entry for entry in entries if entry.promise is not None]
    costs: dict[frozenset[str], Epsilon] = {}
    for client in {client for entry in promised for client in entry.clients}:
        joined = [entry for entry in promised if client in entry.clients]
        names = frozenset(entry.federation for entry in joined)
        if names not in costs:
            costs[names] = epsilon_together([_release(entry) for entry in joined], delta)
    names, worst = max(costs.items(), key=lambda cost: cost[1].value, default=(frozenset(), Epsilon(0.0, "")))
    without = sorted({entry.method for entry in entries if entry.promise is None})
    return Together(finite(worst.value), worst.accountant, len(names), tuple(without))


def entries_of(ledger: Ledger, clients: Iterable[str], until: str | None = None) -> list[Entry]:
    """Federations that used clips of any of `clients`: this run's, and other runs' that clients' own ledgers record.

    until: a federation; this run's ledger is then read as it was when that federation last ended.
    """
    wanted, entries = set(clients), ledger.entries(until)
    known = {entry.federation for entry in ledger.entries()}
    others = [entry for client in sorted(wanted) for entry in ledger.brought_along(client, known)]
    return [entry for entry in (*entries, *others) if wanted & set(entry.clients)]


def _release(entry: Entry) -> Release:
    assert entry.promise is not None, "only federations with a promise are composed"
    counted = entry.opened if entry.promise["sampling"] == "full" else entry.drawn
    return release_in(entry.promise, counted - entry.repeated, entry.repeated, amplifies=not entry.near)


def ended_early(settings: TrainingSettings, records: Sequence[RoundRecord]) -> tuple[str, ...]:
    """A sentence where `privacy.max_epsilon` ended a finished training before its last planned round."""
    planned, limit = settings.federation.rounds, settings.privacy.max_epsilon
    if limit is None or len(records) >= planned:
        return ()
    return (
        f"Training ended after {len(records)} of {planned} planned rounds: one more would have taken ε_release past "
        f"privacy.max_epsilon = {limit:g}.",
    )


def _events(records: Sequence[RoundRecord]) -> tuple[str, ...]:
    """Sentences about rounds that did not end as planned."""
    sentences = []
    if taken_back := sum(record.outcome == "rolled back" for record in records):
        sentences.append(
            f"{taken_back} rounds were taken back after their sum was seen; they are counted like the others."
        )
    if reopened := sum(len(record.reopened) for record in records):
        sentences.append(
            f"{reopened} sums may have been opened before the run was interrupted and lost them; they are counted too."
        )
    if abandoned := sum(record.outcome == "aborted" for record in records):
        sentences.append(
            f"{abandoned} rounds were abandoned before anything was opened, because too few clients were left; which "
            "clients drop out must not depend on their data."
        )
    if any(record.near_abort for record in records):
        sentences.append(
            "In some round one client more or fewer would have decided whether its sum was opened, which reveals "
            "something of who was drawn: no amplification by sampling is claimed."
        )
    return tuple(sentences)
