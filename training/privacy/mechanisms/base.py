"""Privacy mechanisms: what happens to clients' updates before the server sees their sum. Each is one small class.

A mechanism serves one round. On each client it makes of the update the vector that leaves the client (`protect`); on
the server it adds the server's part of the noise (`add_noise`) and reads the sum (`read_sum`). The base class bounds a
client's vector as `release.client_vector` says and adds no noise.

Adjacency of all mechanisms with a guarantee: zero-out, one client against the same client sending the zero vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from common.errors import PrivFedTalkError
from training.privacy.mechanisms import grid, noise, release
from training.privacy.mechanisms.grid import Ring, RingVector
from training.privacy.mechanisms.poisson_sampling import NOISE_DEVIATIONS, PoissonSampling
from training.privacy.mechanisms.release import RoundSum, Vector
from training.settings.privacy import PrivacySettings

METRICS = ("score", "identity", "stability")
"""Metrics that a client measures of itself and may send with its update."""


class ClientUpdate(Protocol):
    """What a mechanism needs of a client's update: Δ_k float32 [d], n_k, s_k and the two parts of s_k."""

    @property
    def delta(self) -> NDArray[np.float32]: ...
    @property
    def clips(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def identity(self) -> float: ...
    @property
    def stability(self) -> float: ...


@dataclass(frozen=True)
class MechanismTerms:
    """A round's public numbers, agreed on before it; every client checks them against what it was promised."""

    clip_norm: float = 0.0  # C, in the update's units
    grid: float = 0.0  # g, in the update's units
    share_variance: float = 0.0  # μ_share, in grid steps squared; 0 where clients add no noise


class Mechanism:
    """One round's mechanism among `cohort` sampled clients, C = `clip_norm`.

    seed: the run's; the noise depends on it where the settings ask for seeded noise. poisson: given where clients are
    drawn independently and the mode has a guarantee.
    """

    no_guarantee: ClassVar[str] = ""
    """Why no ε follows from the noise, however much there is; empty where one does."""
    fewest_masked: ClassVar[int] = 1
    """The fewest clients whose masked sum may be opened; 1 where noise hides even a sum over one."""

    def __init__(
        self,
        settings: PrivacySettings,
        cohort: int,
        clip_norm: float,
        seed: int = 0,
        poisson: PoissonSampling | None = None,
    ) -> None:
        if unknown := set(settings.metrics) - set(METRICS):
            raise PrivFedTalkError(
                f"privacy.metrics names {', '.join(sorted(unknown))}, which no client measures",
                f"name some of {', '.join(METRICS)}, or none",
            )
        self.settings, self.clip_norm, self.seed, self.poisson = settings, clip_norm, seed, poisson
        self.cohort = max(cohort, 1)
        self.terms = self.terms_of(settings, self.cohort, clip_norm)
        self.ring = self._ring()

    @classmethod
    def terms_of(cls, settings: PrivacySettings, cohort: int, clip_norm: float) -> MechanismTerms:
        """The terms of a round with `cohort` clients, at least one."""
        return MechanismTerms(clip_norm, clip_norm / grid.STEPS_PER_CLIP)

    @property
    def deviation(self) -> float:
        """The deviation of the noise that is counted on, on each coordinate of the sum, in the update's units."""
        return 0.0

    @property
    def grid(self) -> float:
        """g, the grid that masked vectors are rounded to, in the update's units."""
        return self.terms.grid

    # On the client.

    def protect(self, update: ClientUpdate, client: str, round_number: int) -> tuple[NDArray[Any], float]:
        """The vector that leaves the client, and the weight a_k, which does not leave it.

        The vector is ring elements [d + scalars] where sums are masked, float32 otherwise.
        """
        vector, weight = self.bounded(update)
        if not self.settings.secure_aggregation:
            return self.in_clear(vector), weight
        steps = self.add_share(grid.quantise(vector, self.grid), client, round_number)
        return self.ring.encode(steps), weight

    def bounded(self, update: ClientUpdate) -> tuple[Vector, float]:
        """The clipped, weighed update with its scalars, of norm at most S, and a_k.

        An update that is not finite becomes the zero vector that the guarantee compares with, scalars included.
        """
        broken = not np.isfinite(update.delta).all()
        return self._client_vector(update, update.delta, update.clips), 0.0 if broken else self._weight(update)

    def in_clear(self, vector: Vector) -> NDArray[np.float32]:
        """The vector as it is sent without masks."""
        return vector.astype(np.float32)

    def add_share(self, steps: NDArray[np.int64], client: str, round_number: int) -> NDArray[np.int64]:
        """A vector in steps of the grid, before masks, with the client's share of the noise added."""
        return steps

    # On the server.

    def plain_sum(self, vectors: Sequence[NDArray[Any]]) -> Vector:
        """The sum, float64, of vectors that were sent without masks."""
        # One after the other: the order and result of np.sum, without a second copy of all vectors.
        total = vectors[0].astype(np.float64)
        for vector in vectors[1:]:
            total += vector
        return total

    def opened(self, total: RingVector) -> Vector:
        """The sum, float64, decoded from a sum of ring elements."""
        return grid.dequantise(self.ring.decode(total), self.grid)

    def add_noise(self, total: Vector, round_number: int, survivors: int) -> Vector:
        """The sum over `survivors` clients with the server's part of the noise added."""
        return total

    def read_sum(self, total: Vector, clients: int) -> RoundSum:
        """The update and the scalars in a noisy sum over `clients` clients."""
        expected = self.poisson.expected if self.poisson else None
        return release.read_sum(total, clients, self.settings, self.clip_norm, expected)

    def divisor(self, public: float, total: RoundSum) -> float:
        """D of the server's step: the number `public`, or, where the mode has no guarantee, the round's own sum of
        weights, as in FedAvg and in the paper."""
        return total.weight if self.no_guarantee else public

    def shows_parts(self) -> bool:
        """Whether the server sees each client's vector as it is: no masks, no noise."""
        return False

    # Bounds on the sum, for the server's checks.

    def noise_on_sum(self, clients: int, dimension: int = 0) -> float:
        """The deviation of the noise on a sum of `clients` vectors of `dimension` coordinates, scalars included."""
        return self.deviation

    def norm_bound(self, total: RoundSum) -> float:
        """An upper bound on the norm of a sum, rounding aside: m C for the updates, plus s (sqrt d + 6), by
        concentration, for noise of deviation s on d coordinates."""
        vectors = self.poisson.most if self.poisson else total.clients
        on_sum = self.noise_on_sum(total.clients, total.update.size + self.settings.scalars)
        return vectors * self.clip_norm + on_sum * self._noise_length(total)

    # Shared by the mechanisms.

    def _noise_length(self, total: RoundSum) -> float:
        return math.sqrt(total.update.size) + NOISE_DEVIATIONS

    def _generator(self, who: str, round_number: int) -> np.random.Generator:
        return noise.noise_generator(self.settings.seeded_noise, self.seed, who, round_number)

    def _client_vector(self, update: ClientUpdate, delta: NDArray[np.float32], clips: int) -> Vector:
        metrics = {name: getattr(update, name) for name in self.settings.metrics}
        return release.client_vector(delta, clips, update.score, metrics, self.settings, self.clip_norm)

    def _weight(self, update: ClientUpdate) -> float:
        return release.isfa_weight(update.clips, update.score, self.settings.n_max, self.settings.gamma)

    def _ring(self, deviation: float = 0.0, shares: int = 1) -> Ring:
        bound = release.vector_norm_bound(self.settings, self.clip_norm)
        return grid.choose_ring(bound, self.grid, deviation, self.cohort, shares)
