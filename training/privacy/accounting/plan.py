"""How much noise a wanted ε takes, and what that noise does to the update: a plan to make before training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from common.errors import PrivFedTalkError
from training.privacy.accounting.epsilon import Epsilon, noise_for_epsilon, poisson_rdp
from training.privacy.accounting.guarantee import epsilon_towards_clients, epsilons
from training.privacy.accounting.schedule import Sampling, Schedule
from training.settings.privacy import PrivacySettings

Reader = Literal["release", "server"]
EpsilonOf = Callable[[Schedule, float, float], Epsilon]
"""ε of a schedule, a noise multiplier and δ."""

# Finer than what is printed: under sampling ε can change ten times as fast as z.
_PRECISION = 2e-4
_ROUGH = 5e-3
_DRAWN: tuple[Sampling, ...] = ("allocation", "poisson", "fixed")


@dataclass(frozen=True)
class Cost:
    """What noise of multiplier z does to one round's sum of m clipped, weighed updates of d parameters.

    All are ratios of L2 norms, in which C and the grid cancel. With a typical weight a (`mean_weight`) the sum has norm
    a m C where all clients agree, and a sqrt(m) C where their updates have nothing in common. The noise on the sum has
    norm z sqrt(d) C / sqrt(1 - beta). A ratio below one can still train: noise of different rounds averages out, while
    what clients agree on adds up over T rounds, T times as far against sqrt(T) times the noise.
    """

    noise_over_update: float  # against one client's update clipped to C
    signal_to_noise_agreeing: float
    signal_to_noise_unrelated: float
    signal_to_noise_all_rounds: float  # agreeing, over all rounds together

    @classmethod
    def of(cls, z: float, schedule: Schedule, dimension: int, settings: PrivacySettings) -> Cost:
        noise = z * math.sqrt(dimension / (1 - settings.scalar_budget))
        signal = settings.mean_weight / noise if noise else math.inf
        m = schedule.mean_cohort
        return cls(noise, signal * m, signal * math.sqrt(m), signal * m * math.sqrt(schedule.rounds))


@dataclass(frozen=True)
class Larger:
    """The same target ε among more clients: z for a cohort of the same size, and for one that grows too."""

    clients: int
    same_cohort: float
    same_cohort_cost: Cost
    per_round: int
    same_rate: float
    same_rate_cost: Cost


@dataclass(frozen=True)
class Alternative:
    """The same target ε under another way to draw cohorts of the same mean size: z, and what that noise costs."""

    sampling: Sampling
    noise_multiplier: float
    accountant: str
    cost: Cost


@dataclass(frozen=True)
class PrivacyPlan:
    """The smallest noise multiplier that keeps the reader's ε at or below the target, and what that noise costs."""

    target_epsilon: float
    reader: Reader
    schedule: Schedule
    mode: str
    dimension: int
    delta: float
    noise_multiplier: float
    release: Epsilon
    server: Epsilon
    client: Epsilon
    server_typical: Epsilon  # of a client that takes part in the expected number of rounds, not in the most it could
    typical_participation: int
    cost: Cost
    alternatives: tuple[Alternative, ...]
    """All ways to draw cohorts that reach the target, the cheapest first; none where everybody takes part."""
    larger: tuple[Larger, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def plan(
    schedule: Schedule,
    target_epsilon: float,
    settings: PrivacySettings,
    dimension: int,
    reader: Reader = "release",
    factors: Sequence[int] = (2, 10, 100),
) -> PrivacyPlan:
    """The noise that `schedule` takes to reach the target ε, by the accountant of the settings' mode.

    reader: against whom ε is meant: `release`, somebody who sees the released models only; `server`, who also knows
    each round's cohort, in the worst case that one client took part as often as it could. dimension: d of the update.
    factors: multiples of the number of clients to plan for as well. PrivFedTalkError where the target cannot be
    reached. The noise multiplier in `settings` is not used.
    """
    if not settings.has_proof:
        raise PrivFedTalkError(f"a plan for mode {settings.mode!r}", remedy="choose mode 'distributed' or 'central'")
    delta, epsilon = settings.target_delta(schedule.clients), _epsilon_of(reader, settings, dimension)
    z = noise_for_epsilon(schedule, target_epsilon, delta, epsilon, _PRECISION)
    release, server = epsilons(settings, schedule, dimension, delta, noise_multiplier=z)
    typical = min(schedule.participation, max(1, round(schedule.rate * schedule.rounds)))
    server_typical = epsilons(settings, schedule, dimension, delta, typical, z)[1]
    larger = tuple(
        _larger(factor, schedule, target_epsilon, settings, dimension, reader)
        for factor in (factors if schedule.rounds else ())
    )
    return PrivacyPlan(
        target_epsilon=target_epsilon,
        reader=reader,
        schedule=schedule,
        mode=settings.mode,
        dimension=dimension,
        delta=delta,
        noise_multiplier=z,
        release=release,
        server=server,
        client=epsilon_towards_clients(settings, schedule, dimension, delta, z),
        server_typical=server_typical,
        typical_participation=typical,
        cost=Cost.of(z, schedule, dimension, settings),
        alternatives=_alternatives(schedule, z, target_epsilon, settings, dimension, epsilon),
        larger=larger,
    )


def _epsilon_of(reader: Reader, settings: PrivacySettings, dimension: int) -> EpsilonOf:
    """The reader's ε."""

    def epsilon(at: Schedule, z: float, delta: float) -> Epsilon:
        return epsilons(settings, at, dimension, delta, noise_multiplier=z)[0 if reader == "release" else 1]

    return epsilon


def _quick_epsilon_of(reader: Reader, settings: PrivacySettings, dimension: int) -> EpsilonOf:
    """A bound on it for a search: RDP is never below the tight bound, and a hundred times as quick."""
    tight, central = _epsilon_of(reader, settings, dimension), settings.mode == "central"

    def epsilon(at: Schedule, z: float, delta: float) -> Epsilon:
        if reader == "release" and central and at.sampling == "poisson" and at.draws and at.max_participation is None:
            return Epsilon(poisson_rdp(at.rate, z, at.rounds, delta), "RDP (Poisson)")
        return tight(at, z, delta)

    return epsilon


def _alternatives(
    schedule: Schedule, own: float, target: float, settings: PrivacySettings, dimension: int, epsilon: EpsilonOf
) -> tuple[Alternative, ...]:
    """`own` is the noise multiplier under the schedule's own sampling."""
    if not schedule.draws or not schedule.rounds:
        return ()
    delta, found = settings.target_delta(schedule.clients), []
    for sampling in _DRAWN:
        at = replace(schedule, sampling=sampling)
        try:
            z = own if at == schedule else noise_for_epsilon(at, target, delta, epsilon, _ROUGH)
        except PrivFedTalkError:  # no noise is enough
            continue
        found.append(Alternative(sampling, z, epsilon(at, z, delta).accountant, Cost.of(z, at, dimension, settings)))
    return tuple(sorted(found, key=lambda one: one.noise_multiplier))


def _larger(
    factor: int, schedule: Schedule, target: float, settings: PrivacySettings, dimension: int, reader: Reader
) -> Larger:
    clients, cap = factor * schedule.clients, schedule.max_participation
    delta, epsilon = settings.target_delta(clients), _quick_epsilon_of(reader, settings, dimension)

    def noise(per_round: int, sampling: Sampling) -> tuple[float, Schedule]:
        at = Schedule(clients, per_round, schedule.rounds, sampling, cap)
        return noise_for_epsilon(at, target, delta, epsilon, _ROUGH), at

    # A cohort of everybody cannot keep its size while the population grows: it becomes a Poisson sample.
    few, few_schedule = noise(schedule.per_round, "poisson" if schedule.sampling == "full" else schedule.sampling)
    many, many_schedule = noise(factor * schedule.per_round, schedule.sampling)
    return Larger(
        clients,
        few,
        Cost.of(few, few_schedule, dimension, settings),
        factor * schedule.per_round,
        many,
        Cost.of(many, many_schedule, dimension, settings),
    )
