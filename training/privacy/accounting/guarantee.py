"""The guarantee that follows from settings and a schedule, and the population that would make it meaningful."""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.privacy.accounting.epsilon import (
    Epsilon,
    Release,
    epsilon_client,
    epsilon_release,
    epsilon_server,
    poisson_rdp,
)
from training.privacy.accounting.schedule import Schedule
from training.privacy.accounting.skellam_rdp import SkellamNoise
from training.settings.privacy import PrivacySettings

# A larger ε is no meaningful guarantee; the search for a population that would give one aims a little lower.
LARGEST_MEANINGFUL_EPSILON = 10.0
TARGET_EPSILON = 8.0
_LARGEST_POPULATION = 2**40


@dataclass(frozen=True)
class Population:
    """A population in which the same training, with an equally precise average update, has a meaningful ε_release."""

    clients: int
    per_round: int
    noise_multiplier: float
    delta: float
    epsilon_release: float


@dataclass(frozen=True)
class Together:
    """The joint cost of all releases so far on the same clients, for the client whom they cost most.

    epsilon: at the report's δ; None where no finite ε holds. accountant: the theorem. releases: how many of them used
    that client. without_promise: the methods that were trained on these clients and promise nothing.
    """

    epsilon: float | None
    accountant: str
    releases: int
    without_promise: tuple[str, ...] = ()

    @property
    def bound(self) -> float:
        """ε, infinite where no finite one holds."""
        return math.inf if self.epsilon is None else self.epsilon


def epsilons(
    settings: PrivacySettings,
    schedule: Schedule,
    dimension: int,
    delta: float,
    participation: int | None = None,
    noise_multiplier: float | None = None,
) -> tuple[Epsilon, Epsilon]:
    """(ε_release, ε_server) of the settings' mechanism by the accountant that fits its noise; infinite without a proof.

    participation: k of `epsilon_server`, where it is known. noise_multiplier: z in place of the settings' own.
    """
    z = settings.noise_multiplier if noise_multiplier is None else noise_multiplier
    if not settings.has_proof:
        z = 0.0
    skellam = skellam_mechanism(settings, dimension, z)
    return (
        epsilon_release(schedule, z, delta, skellam),
        epsilon_server(schedule, z, delta, participation, skellam),
    )


def epsilon_towards_clients(
    settings: PrivacySettings, schedule: Schedule, dimension: int, delta: float, noise_multiplier: float | None = None
) -> Epsilon:
    """ε towards another client: see `accounting.epsilon_client`."""
    z = settings.noise_multiplier if noise_multiplier is None else noise_multiplier
    if not settings.has_proof:
        z = 0.0
    return epsilon_client(
        schedule, z, delta, share_known_to_clients(settings, schedule), skellam_mechanism(settings, dimension, z)
    )


def share_known_to_clients(settings: PrivacySettings, schedule: Schedule) -> float:
    """The largest share of the counted noise variance that one client can have added itself, and can subtract.

    0 where `tolerated_colluders` leaves such shares out of the count, or where a server adds the noise. Cohorts of one
    are left out, because they have no other client who could subtract anything.
    """
    if settings.mode != "distributed" or settings.tolerated_colluders > 0:
        return 0.0
    fewest = 2 if schedule.hides_size else schedule.per_round
    return 0.0 if fewest < 2 else 1.0 / settings.minimum_survivors(fewest)


def release_of(settings: PrivacySettings, schedule: Schedule, dimension: int) -> Release:
    """A federation under these settings, as `epsilon_together` takes it."""
    z = settings.noise_multiplier
    return Release(schedule, z, skellam_mechanism(settings, dimension, z))


def skellam_mechanism(settings: PrivacySettings, dimension: int, noise_multiplier: float) -> SkellamNoise | None:
    """The integer mechanism of one round in distributed mode; None where Gaussian accounting applies."""
    if settings.mode != "distributed":
        return None
    norm_over_clip = 1 / math.sqrt(1 - settings.scalar_budget)
    return SkellamNoise.of(noise_multiplier, dimension + settings.scalars, norm_over_clip)


def meaningful_population(settings: PrivacySettings, schedule: Schedule, dimension: int) -> Population | None:
    """How many clients the same rounds would need for ε_release ≤ 8, rounded up to two digits.

    The sampling rate stays the same. z grows with the cohort, so that the noise on the average update (noise over the
    number of clients in a round) stays the same too. None where the run's own ε is small enough already, where it has
    no noise to scale, or where no population suffices.
    """
    z = settings.noise_multiplier
    if not settings.has_proof or z == 0 or schedule.rounds == 0:
        return None

    def population_of(clients: int, tight: bool) -> Population:
        per_round = max(1, round(schedule.rate * clients))
        scaled = Schedule(clients, per_round, schedule.rounds, schedule.sampling, schedule.max_participation)
        noise, delta = z * scaled.mean_cohort / schedule.mean_cohort, settings.target_delta(clients)
        if not tight and settings.mode == "central" and schedule.hides_size:
            value = poisson_rdp(scaled.rate, noise, schedule.rounds, delta)  # quick, for the search only
        else:
            value = epsilons(settings, scaled, dimension, delta, noise_multiplier=noise)[0].value
        return Population(clients, per_round, noise, delta, value)

    low, high = 0, schedule.clients
    while population_of(high, tight=False).epsilon_release > TARGET_EPSILON:
        low, high = high, 2 * high
        if high > _LARGEST_POPULATION:
            return None
    while high - low > 0.005 * high and high - low > 1:
        middle = (low + high) // 2
        if population_of(middle, tight=False).epsilon_release > TARGET_EPSILON:
            low = middle
        else:
            high = middle
    if high <= schedule.clients:
        return None  # this run's ε is meaningful already
    return population_of(_two_digits_up(high), tight=True)


def _two_digits_up(value: int) -> int:
    unit = 10 ** max(0, len(str(value)) - 2)
    return -(-value // unit) * unit
