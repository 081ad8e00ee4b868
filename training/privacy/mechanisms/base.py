"""What stands between clients' updates and the sum that the server sees; each mechanism is one small class.

A mechanism serves one round. On each client it makes of the update the vector that leaves the client (`protect`); on
the server it adds the noise that the server owes (`add_noise`) and reads the sum (`read_sum`). As it stands here a
client's vector is bounded as `release.client_vector` says, and nobody adds noise.

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
"""What a client measures of itself that may travel beside its update."""


class ClientUpdate(Protocol):
    """What a mechanism needs of a client's update: Δ_k float32 [d], n_k, s_k and what s_k is made of."""

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
    """A round's public numbers, agreed on before it: every client checks that they keep what it was promised."""

    clip_norm: float = 0.0  # C, in the update's units
    grid: float = 0.0  # g, in the update's units
    share_variance: float = 0.0  # μ_share, in grid steps squared; 0 where clients add no noise


class Mechanism:
    """One round's mechanism among `cohort` sampled clients, C = `clip_norm`.

    `seed` is the run's, from which noise follows where the settings seed it; `poisson` is given where each client is
    drawn by itself and there is a guarantee to keep.
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
        """The deviation of the noise on each coordinate of the sum that is counted on, in the update's units."""
        return 0.0

    @property
    def grid(self) -> float:
        """g, the grid that masked vectors are rounded to, in the update's units."""
        return self.terms.grid

    # On the client.

    def protect(self, update: ClientUpdate, client: str, round_number: int) -> tuple[NDArray[Any], float]:
        """What leaves the client, and its weight a_k, which stays: ring elements [d + scalars] where sums are masked,
        else float32."""
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
        """The vector as it travels without masks."""
        return vector.astype(np.float32)

    def add_share(self, steps: NDArray[np.int64], client: str, round_number: int) -> NDArray[np.int64]:
        """A masked vector, in steps of the grid, with the client's share of the noise."""
        return steps

    # On the server.

    def plain_sum(self, vectors: Sequence[NDArray[Any]]) -> Vector:
        """The sum, float64, of vectors that travelled without masks."""
        # One after the other, np.sum's order and result: stacked first, all vectors would be there a second time.
        total = vectors[0].astype(np.float64)
        for vector in vectors[1:]:
            total += vector
        return total

    def opened(self, total: RingVector) -> Vector:
        """The sum, float64, that a sum of ring elements stands for."""
        return grid.dequantise(self.ring.decode(total), self.grid)

    def add_noise(self, total: Vector, round_number: int, survivors: int) -> Vector:
        """The sum over `survivors` clients with the noise that the server owes it."""
        return total

    def read_sum(self, total: Vector, clients: int) -> RoundSum:
        """The update and the scalars in a noisy sum over so many clients."""
        expected = self.poisson.expected if self.poisson else None
        return release.read_sum(total, clients, self.settings, self.clip_norm, expected)

    def divisor(self, public: float, total: RoundSum) -> float:
        """D of the server's step: the public number; without a guarantee to keep, the round's own sum of weights, as
        in FedAvg and in the paper."""
        return total.weight if self.no_guarantee else public

    def shows_parts(self) -> bool:
        """Whether the server sees each client's vector as it is: no masks, no noise."""
        return False

    # What may be expected of the sum.

    def noise_on_sum(self, clients: int, dimension: int = 0) -> float:
        """The deviation of the noise on a sum of `clients` vectors of `dimension` coordinates, scalars included."""
        return self.deviation

    def norm_bound(self, total: RoundSum) -> float:
        """The most that updates and noise on a sum can come to, but for rounding: m C, and noise of deviation s on d
        coordinates, s (sqrt d + 6), by concentration."""
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
