"""Distributed noise: a client's vector on an integer grid, its share of Skellam noise, and the finite ring.

Skellam(μ), the difference of two Poisson(μ/2), has mean 0 and variance μ and is closed under addition: shares of
variance μ/(m_min − c) from at least m_min survivors, c of whom may tell the server theirs, leave Skellam noise of
variance at least μ on the sum (Agarwal, Kairouz, Liu 2021, https://arxiv.org/abs/2110.04995).
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from common.errors import PrivFedTalkError

RingVector: TypeAlias = NDArray[np.unsignedinteger[Any]]  # uint32 or uint64

# g = C / 2^20 where noise is small: rounding then adds under 0.05 % to the sensitivity of a million parameters.
STEPS_PER_CLIP = 2**20
# More noise than this many steps takes a coarser grid, so that the noise on the sum has a Poisson rate of at most 2^35.
STEPS_PER_DEVIATION = 2**18
# Poisson's rate up to which numpy draws from the right distribution; noise of a larger rate is drawn in such parts.
# Measured: its acceptance test is off by 5e-5 at 2^34 and by 2e-2 at 2^43, variances by 10 % at 2^49, and from 2^53 on
# all its draws are even.
LARGEST_PART = 2.0**34
# Parts take time; who asks for more than 64 of them left the grid where it was.
LARGEST_RATE = 2.0**40
# Cohorts of sizes that Poisson sampling draws less often than this, all together, may carry more noise than others:
# whoever claims amplification adds it to delta, once a round.
RARE_COHORT = 1e-12
# The ring leaves room for noise this many deviations out; Skellam tails there are below e^-700.
_NOISE_DEVIATIONS = 40


@dataclass(frozen=True)
class Ring:
    """Integers modulo 2^bits, as unsigned machine words: sums wrap for free and masks are uniform bytes."""

    bits: Literal[32, 64]

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        return np.dtype("<u4") if self.bits == 32 else np.dtype("<u8")

    def encode(self, integers: NDArray[np.int64]) -> RingVector:
        """Signed integers to ring elements (two's complement, exact modulo 2^bits)."""
        return integers.astype(self.dtype)

    def decode(self, elements: RingVector) -> NDArray[np.int64]:
        """Ring elements to the representative in [−2^(bits−1), 2^(bits−1)); int64."""
        signed = np.dtype("<i4") if self.bits == 32 else np.dtype("<i8")
        return elements.astype(self.dtype, copy=False).view(signed).astype(np.int64)


def grid_over_clip(noise_multiplier: float, norm_over_clip: float) -> float:
    """g/C, of the grid that vectors are rounded to: max(2^-20, zS/C / 2^18), S/C = norm_over_clip.

    The grid follows the noise: however large z is, the noise on a sum has a deviation of at most 2^18 steps, which the
    sampler draws correctly. What the coarser grid costs is in `integer_sensitivities`. Both the aggregator and the
    accounting take the grid from here. noise_multiplier: z of the noise on this grid, 0 where there is none.
    """
    return max(1 / STEPS_PER_CLIP, noise_multiplier * norm_over_clip / STEPS_PER_DEVIATION)


def choose_ring(norm_bound: float, grid: float, noise_deviation: float, clients: int, shares: int = 1) -> Ring:
    """The smaller of the two rings in which the sum of `clients` noisy vectors cannot wrap.

    norm_bound: S, of one vector. noise_deviation: zS of the wanted noise, in the same units. shares: m_min − c; if
    all clients survive, the noise on the sum has clients/shares times the wanted variance.
    """
    actual_deviation = noise_deviation * math.sqrt(clients / shares)
    largest = clients * (norm_bound / grid + 1) + _NOISE_DEVIATIONS * actual_deviation / grid + 1
    if largest < 2**31:
        return Ring(32)
    if largest < 2**63:
        return Ring(64)
    raise PrivFedTalkError(
        f"{clients} clients with noise {noise_deviation / norm_bound:.3g} times the norm bound would wrap 64 bits",
        remedy="lower privacy.noise_multiplier or the number of clients in a round",
    )


def quantise(vector: NDArray[np.float64], grid: float) -> NDArray[np.int64]:
    """vector/grid to the nearest integer; `integer_sensitivities` bounds its norm."""
    if not np.isfinite(vector).all():
        raise PrivFedTalkError(
            "a vector that is not finite reached the quantiser",
            remedy="build contributions with release.client_vector, which zeroes what is not finite",
        )
    return np.rint(vector / grid).astype(np.int64)


def dequantise(integers: NDArray[np.int64], grid: float) -> NDArray[np.float64]:
    """The inverse of `quantise` up to grid/2 a coordinate (and up to m·grid/2 on a sum of m)."""
    return np.asarray(integers * grid, dtype=np.float64)


def rounding_bound(norm_bound: float, grid: float, dimension: int) -> float:
    """How far rounding to the nearest point of the grid moves a vector of norm at most S: min(g√d/2, S), in S's units.

    Proof. A coordinate x moves by at most g/2; and by at most |x|, since the grid holds 0: if |x| ≤ g/2 it moves to 0,
    which is |x| away, and else |x| > g/2. Squares add up over d coordinates. ∎
    """
    return min(grid * math.sqrt(dimension) / 2, norm_bound)


def integer_sensitivities(norm_bound: float, grid: float, dimension: int) -> tuple[float, float]:
    """(Δ₂, Δ₁), in steps, of a vector of norm at most S that `quantise` rounded, against the zero vector.

    Δ₂ = S/g + min(√d/2, S/g): the vector's norm and what rounding adds to it (`rounding_bound`); zero stays zero.
    Δ₁ ≤ √d·Δ₂ by Cauchy and Schwarz.
    """
    l2 = (norm_bound + rounding_bound(norm_bound, grid, dimension)) / grid
    return l2, math.sqrt(dimension) * l2


def usual_cohorts(population: int, expected: float) -> range:
    """The sizes, without 0, of cohorts of Poisson sampling, M ~ Binomial(N, q), expected = qN: all but RARE_COHORT."""
    drawn = stats.binom(population, expected / population)
    return range(max(int(drawn.ppf(RARE_COHORT / 2)), 1), int(drawn.isf(RARE_COHORT / 2)) + 1)


def steady_share(cohorts: Iterable[int], honest_of: Callable[[int], int]) -> float:
    """The most noise that a sum over one of `cohorts` (sizes) carries, as a multiple of what is counted on.

    `honest_of` gives, for a cohort's size m, how many honest shares make up the noise that is counted on: m clients
    bring m / honest_of(m) of it.
    """
    return max((m / honest_of(m) for m in cohorts), default=1.0)


def share_variance(noise_deviation: float, grid: float, minimum_survivors: int, colluders: int) -> float:
    """μ_share = (zS/g)²/(m_min − c), in grid steps squared: what each client adds."""
    honest = minimum_survivors - colluders
    if honest < 1:
        raise PrivFedTalkError(
            f"with {minimum_survivors} survivors and {colluders} tolerated colluders no honest client is left to add "
            "noise",
            remedy="lower privacy.tolerated_colluders, raise privacy.survivor_floor or sample more clients",
        )
    return (noise_deviation / grid) ** 2 / honest


def skellam_noise(variance: float, size: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Skellam(variance) noise, int64 [size]; the sum of equal parts where one would be too much for the sampler.

    PrivFedTalkError beyond `LARGEST_RATE`. The sampler works in double precision: the log of a Poisson's mass is off by
    about 1e-16·λ·log λ, λ = variance/2, at most 5e-5 in a part (tests compare variance, parity and tails). The
    accounting takes it as exact.
    """
    if not 0 <= variance <= 2 * LARGEST_RATE:
        raise PrivFedTalkError(
            f"Skellam noise of variance {variance:.3g}, where at most {2 * LARGEST_RATE:.3g} is drawn correctly",
            remedy="round to a grid that follows the noise (skellam.grid_over_clip), or tolerate fewer colluders",
        )
    total = np.zeros(size, dtype=np.int64)
    if variance == 0:
        return total
    parts = math.ceil(variance / 2 / LARGEST_PART)
    rate = variance / 2 / parts
    for _ in range(parts):
        total += generator.poisson(rate, size)
        total -= generator.poisson(rate, size)
    return total


def noise_generator(seed: int | None, *stable_ids: str | int) -> np.random.Generator:
    """The generator of a client's noise in one round.

    seed None: 256 fresh bits of operating-system entropy, kept nowhere, so that nobody can try seeds. The stream
    itself (PCG64-DXSM) is statistical, not cryptographic; its raw output never leaves the client, only sums do.
    A seed given: repeatable from (seed, stable_ids), so that anyone who knows them can subtract the noise. Fit
    only for tests and for tables on rendered or public data, and the report then says: not private.
    """
    if seed is None:
        return np.random.Generator(np.random.PCG64DXSM(secrets.randbits(256)))
    text = "\x1f".join(["privacy noise", str(seed), *map(str, stable_ids)])
    return np.random.Generator(np.random.PCG64DXSM(int.from_bytes(hashlib.sha256(text.encode()).digest(), "little")))


def gaussian_noise(deviation: float, size: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Central mode's noise, float64 [size]: added once to the exact sum by the trusted aggregator."""
    return generator.normal(0.0, deviation, size) if deviation > 0 else np.zeros(size)
