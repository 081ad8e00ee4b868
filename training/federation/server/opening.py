"""Opening a round: its public clipping norm and divisor, which follow from the opened sums of past rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.federation.server.aggregation import Aggregator
from training.federation.server.checkpoint import RoundRecord
from training.federation.server.cohorts import rounds_taken_part
from training.federation.server.spending import planned_schedule
from training.privacy.mechanisms import release
from training.privacy.mechanisms.poisson_sampling import PoissonSampling
from training.settings import TrainingSettings
from training.settings.privacy import PrivacySettings


@dataclass(frozen=True)
class RoundOutcome:
    """The noisy scalars of a finished round, from which the next round's public C and D may follow."""

    weight: float
    within_clip: float  # the share of clients, not their number


def open_round(
    settings: TrainingSettings, cohort: int, population: int, records: Sequence[RoundRecord], seed: int
) -> Aggregator:
    """The aggregator of the next round; its clipping norm and denominator follow from past rounds' public figures."""
    poisson = poisson_sampling_of(settings, population)
    past = [
        RoundOutcome(r.weight_sum, r.within_clip)
        for r in records
        if r.applied and r.weight_sum is not None and r.within_clip is not None
    ]
    clip_norm = next_clip_norm(settings.privacy, past)
    expected = planned_schedule(settings, population).mean_cohort
    denominator = next_denominator(settings.privacy, expected, population, past)
    before = rounds_taken_part(records)
    return Aggregator(settings.privacy, cohort, seed, clip_norm, denominator, poisson, taken_part=before)


def poisson_sampling_of(settings: TrainingSettings, population: int) -> PoissonSampling | None:
    """The public numbers of cohorts whose size is secret; None if it is fixed or there is no guarantee."""
    planned = planned_schedule(settings, population)
    hidden = planned.hides_size and settings.privacy.has_proof
    return PoissonSampling(population, planned.mean_cohort) if hidden else None


def next_clip_norm(settings: PrivacySettings, past: Sequence[RoundOutcome]) -> float:
    """C of the round after `past`: as set, or adapted to each past round's noisy share of unclipped updates."""
    C = settings.clip_norm
    if settings.adaptive_clipping:
        for outcome in past:
            C = release.adapted_clip_norm(C, outcome.within_clip, settings)
    return C


def next_denominator(settings: PrivacySettings, cohort: float, population: int, past: Sequence[RoundOutcome]) -> float:
    """D of the round after `past`: q N a-bar, or (`lagged`) a value that follows past sums but is at least half of it.

    `cohort` is the expected number of clients, q N, which is public; no round's actual number is used.
    """
    fixed = release.fixed_denominator(cohort / population, population, settings.mean_weight)
    if settings.denominator == "fixed":
        return fixed
    lagged = release.LaggedDenominator(value=fixed, floor=fixed / 2)
    for outcome in past:
        lagged = lagged.after(outcome.weight)
    return lagged.value
