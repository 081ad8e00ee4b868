"""What rounds cost in privacy, under the sampling that was really used and counting what really ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from training.checkpoint import RoundRecord
from training.privacy.accounting import Schedule
from training.privacy.guarantee import epsilons
from training.privacy.report import PrivacyReport, finite, privacy_report
from training.sampling import expected_cohort, participation, takes_everybody
from training.settings import TrainingSettings
from training.violations import violations


def schedule_of(settings: TrainingSettings, clients: int, records: Sequence[RoundRecord]) -> Schedule:
    """The schedule that `records` followed.

    A round that was taken back has been seen and counts. One that was abandoned, or empty, has shown nothing: where
    everybody takes part it costs nothing. Where clients are sampled it counts all the same, since the theorems are
    about rounds that are drawn, whatever becomes of them.
    """
    federation = settings.federation
    everybody = takes_everybody(clients, federation)
    return Schedule(
        clients=clients,
        per_round=expected_cohort(clients, federation),
        rounds=sum(record.opened for record in records) if everybody else len(records),
        sampling="full" if everybody else federation.sampling,
        max_participation=settings.privacy.max_participation,
    )


def epsilon_so_far(
    settings: TrainingSettings, clients: int, records: Sequence[RoundRecord], dimension: int
) -> tuple[float | None, float | None]:
    """(release, server) after `records`; None where no finite one holds. At most half a second."""
    if not settings.privacy.has_proof:
        return None, None
    schedule, privacy = schedule_of(settings, clients, records), settings.privacy
    most = max(participation(records).values(), default=0)
    release, server = epsilons(privacy, schedule, dimension, privacy.target_delta(clients), most)
    return finite(release.value), finite(server.value)


def account(
    method: str, settings: TrainingSettings, clients: int, records: Sequence[RoundRecord], dimension: int
) -> PrivacyReport:
    """The report of the rounds that were run."""
    counts = participation(records)
    schedule = schedule_of(settings, clients, records)
    return privacy_report(
        settings.privacy,
        schedule,
        dimension,
        max(counts.values(), default=0),
        violations=violations(method, settings.privacy, schedule, records),
        events=_events(records),
        clip_norms=tuple(record.clip_norm for record in records),
        took_part=Counter(counts.values()),
    )


def _events(records: Sequence[RoundRecord]) -> tuple[str, ...]:
    """Sentences about rounds that did not end as planned."""
    told = []
    if taken_back := sum(record.outcome == "rolled back" for record in records):
        told.append(f"{taken_back} rounds were taken back after their sum was seen; they are counted like the others.")
    if abandoned := sum(record.outcome == "aborted" for record in records):
        told.append(
            f"{abandoned} rounds were abandoned before anything was opened, because too few clients were left; who "
            "drops out must not depend on what clients hold."
        )
    return tuple(told)
