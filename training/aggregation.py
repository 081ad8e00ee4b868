"""The protected way from clients' updates to the server's next theta: the only thing that crosses between them.

A client turns its update into one vector (`contribute`), the sum is formed under secure aggregation (`combine`),
the server sees that sum and applies it (`step`). Modes are explained in `training.privacy.settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.client import LocalUpdate
from training.privacy import release, skellam
from training.privacy.secure_aggregation.in_process import aggregate_in_process
from training.privacy.settings import PrivacySettings

Theta = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Contribution:
    """What a client hands to the protocol: ring elements with its noise share, or plain floats without privacy.

    `weight` is a_k; it stays with the client (a simulation's log may show it, the server never sees it).
    """

    vector: npt.NDArray[Any]
    weight: float


@dataclass(frozen=True)
class Aggregate:
    """The server's view of a round: the opened sum and what it cost to get it."""

    total: release.RoundSum
    bytes_up: int


class Aggregator:
    """Both ends of a round's protocol under one set of privacy settings, for a population of `population`."""

    def __init__(self, settings: PrivacySettings, population: int, per_round: int | None, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.cohort = min(per_round or population, population)
        self.denominator = release.fixed_denominator(self.cohort / population, population, settings.mean_weight)
        self.deviation = release.noise_deviation(settings)
        self.grid = settings.clip_norm / skellam.STEPS_PER_CLIP
        self.survivors = settings.minimum_survivors(self.cohort)
        self.ring = skellam.choose_ring(
            release.vector_norm_bound(settings),
            self.grid,
            self.deviation if settings.mode == "distributed" else 0.0,
            self.cohort,
            self.survivors - settings.tolerated_colluders,
        )

    def contribute(self, client: str, update: LocalUpdate, round_number: int) -> Contribution:
        """On the client: clip, weigh, append the centred scalars, add this client's share of the noise."""
        settings = self.settings
        vector = release.client_vector(update.delta, update.clips, update.score, {"score": update.score}, settings)
        weight = release.isfa_weight(update.clips, update.score, settings.n_max, settings.gamma)
        if not settings.secure_aggregation:
            return Contribution(vector, weight)
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
        return Aggregate(release.read_sum(total, clients, settings), bytes_up)

    def step(self, theta: Theta, aggregate: Aggregate, server_rate: float) -> Theta:
        """theta + eta * sum / D. Without a guarantee to keep, D is the round's own weight sum, as in FedAvg."""
        total = aggregate.total
        denominator = total.weight if self.settings.mode == "none" else self.denominator
        return release.server_step(theta, total.update, server_rate, denominator).astype(np.float32)
