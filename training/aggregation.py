"""The protected way from clients' updates to the server's next theta: the only thing that crosses between them.

A client turns its update into one vector (`contribute`), the sum is formed under secure aggregation (`combine`),
the server sees that sum and what follows from it (`released`); how it becomes theta is the
method's server rule. Modes are explained in `training.privacy.settings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from training.client import LocalUpdate
from training.methods.base import Released, State
from training.privacy import release, skellam
from training.privacy.secure_aggregation.in_process import aggregate_in_process
from training.privacy.settings import PrivacySettings


@dataclass(frozen=True)
class Contribution:
    """What a client hands to the protocol: ring elements with its noise share, or plain floats without privacy.

    `weight` is a_k; it stays with the client (a simulation's log may show it, the server never sees it). `extra`
    travels in clear beside the vector, times the weight, for methods that have no privacy to lose.
    """

    vector: npt.NDArray[Any]
    weight: float
    extra: State = field(default_factory=dict)


@dataclass(frozen=True)
class Aggregate:
    """The server's view of a round: the opened sum and what it cost to get it."""

    total: release.RoundSum
    bytes_up: int
    extra: State = field(default_factory=dict)  # weighted means


@dataclass(frozen=True)
class RoundOutcome:
    """The noisy scalars of a finished round, from which the next round's public C and D may follow."""

    clients: int
    weight: float
    within_clip: float


class Aggregator:
    """Both ends of one round's protocol. `clip_norm` is the round's C, `denominator` its public divisor D."""

    def __init__(self, settings: PrivacySettings, cohort: int, seed: int, clip_norm: float, denominator: float) -> None:
        self.settings, self.seed = settings, seed
        self.clip_norm, self.denominator = clip_norm, denominator
        self.deviation = release.noise_deviation(settings, clip_norm)
        self.grid = clip_norm / skellam.STEPS_PER_CLIP
        self.survivors = settings.minimum_survivors(cohort)
        self.ring = skellam.choose_ring(
            release.vector_norm_bound(settings, clip_norm),
            self.grid,
            self.deviation if settings.mode == "distributed" else 0.0,
            cohort,
            self.survivors - settings.tolerated_colluders,
        )

    def contribute(self, client: str, update: LocalUpdate, round_number: int) -> Contribution:
        """On the client: clip, weigh, append the centred scalars, add this client's share of the noise."""
        settings = self.settings
        metrics = {"score": update.score}
        vector = release.client_vector(update.delta, update.clips, update.score, metrics, settings, self.clip_norm)
        weight = release.isfa_weight(update.clips, update.score, settings.n_max, settings.gamma)
        if not settings.secure_aggregation:
            extra = {name: value * np.float32(weight) for name, value in update.extra.items()}
            return Contribution(vector.astype(np.float32), weight, extra)
        assert not update.extra, "what a method sends beside its update has no place in the protected vector"
        integers = skellam.quantise(vector, self.grid)
        if settings.mode == "distributed":
            generator = skellam.noise_generator(settings.seeded_noise, self.seed, client, round_number)
            variance = skellam.share_variance(self.deviation, self.grid, self.survivors, settings.tolerated_colluders)
            integers = integers + skellam.skellam_noise(variance, len(integers), generator)
        return Contribution(self.ring.encode(integers), weight)

    def combine(self, contributions: Mapping[str, Contribution], round_number: int) -> Aggregate:
        """Form the sum, under the secure aggregation protocol where it is on, and read the scalars out of it."""
        settings = self.settings
        vectors = {client: contribution.vector for client, contribution in contributions.items()}
        if settings.secure_aggregation:
            opened = aggregate_in_process(
                vectors,
                settings.share_threshold(len(vectors)),
                round_number=round_number,
                minimum_survivors=self.survivors,
            )
            total = skellam.dequantise(self.ring.decode(opened.total), self.grid)
            clients, bytes_up = len(opened.survivors), sum(t.up for t in opened.bytes_by_client.values())
        else:
            total = np.sum(list(vectors.values()), axis=0, dtype=np.float64)
            clients, bytes_up = len(vectors), sum(vector.nbytes for vector in vectors.values())
        if settings.mode == "central":
            generator = skellam.noise_generator(settings.seeded_noise, self.seed, "server", round_number)
            total = total + skellam.gaussian_noise(self.deviation, len(total), generator)
        summed = release.read_sum(total, clients, settings, self.clip_norm)
        extra = _weighted_means([contribution.extra for contribution in contributions.values()], summed.weight)
        bytes_up += sum(value.nbytes for item in contributions.values() for value in item.extra.values())
        return Aggregate(summed, bytes_up, extra)

    def released(self, aggregate: Aggregate, share: float) -> Released:
        """What the server's step may use. Without a guarantee to keep, D is the round's own weight sum, as in
        FedAvg."""
        total = aggregate.total
        denominator = total.weight if self.settings.mode == "none" else self.denominator
        return Released(total.update, denominator, aggregate.extra, share)


def _weighted_means(weighted: Sequence[State], weight: float) -> State:
    """Sums of already weighted vectors over the sum of weights, by name."""
    names = weighted[0] if weighted else {}
    sums = {name: np.stack([extra[name] for extra in weighted]).sum(axis=0, dtype=np.float64) for name in names}
    return {name: (total / weight).astype(np.float32) for name, total in sums.items()}


def next_clip_norm(settings: PrivacySettings, past: Sequence[RoundOutcome]) -> float:
    """C of the round after `past`: as set, or moved by each past round's noisy share of unclipped updates."""
    C = settings.clip_norm
    if settings.adaptive_clipping:
        for outcome in past:
            C = release.adapted_clip_norm(C, outcome.within_clip, outcome.clients, settings)
    return C


def next_denominator(settings: PrivacySettings, cohort: int, population: int, past: Sequence[RoundOutcome]) -> float:
    """D of the round after `past`: q N a-bar, or (`lagged`) never less than half of it and following past sums."""
    fixed = release.fixed_denominator(cohort / population, population, settings.mean_weight)
    if settings.denominator == "fixed":
        return fixed
    lagged = release.LaggedDenominator(value=fixed, floor=fixed / 2)
    for outcome in past:
        lagged = lagged.after(outcome.weight)
    return lagged.value
