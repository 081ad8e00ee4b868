"""Distributed noise: a client's vector on an integer grid, its share of Skellam noise, and the finite ring.

Skellam(μ), the difference of two Poisson(μ/2), has mean 0 and variance μ and is closed under addition: shares of
variance μ/(m_min − c) from at least m_min survivors, c of whom may tell the server theirs, leave Skellam noise of
variance at least μ on the sum (Agarwal, Kairouz, Liu 2021, https://arxiv.org/abs/2110.04995).
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preparation.errors import PrivFedTalkError

RingVector: TypeAlias = NDArray[np.unsignedinteger[Any]]  # uint32 or uint64

# g = C / 2^20: rounding then adds under 0.1 % to the sensitivity of an update of a million parameters.
STEPS_PER_CLIP = 2**20
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
    """vector/grid to the nearest integer. A vector of norm S becomes one of norm at most S/grid + √d/2."""
    if not np.isfinite(vector).all():
        raise PrivFedTalkError(
            "a vector that is not finite reached the quantiser",
            remedy="build contributions with release.client_vector, which zeroes what is not finite",
        )
    return np.rint(vector / grid).astype(np.int64)


def dequantise(integers: NDArray[np.int64], grid: float) -> NDArray[np.float64]:
    """The inverse of `quantise` up to grid/2 a coordinate (and up to m·grid/2 on a sum of m)."""
    return np.asarray(integers * grid, dtype=np.float64)


def integer_sensitivities(norm_bound: float, grid: float, dimension: int) -> tuple[float, float]:
    """(Δ₂, Δ₁) of a rounded vector of `dimension` coordinates: Δ₂ = S/g + √d, whatever way one rounds; Δ₁ ≤ √d·Δ₂."""
    l2 = norm_bound / grid + math.sqrt(dimension)
    return l2, math.sqrt(dimension) * l2


def steady_share(clients: int, honest_of: Callable[[int], int]) -> float:
    """The most noise that a sum over up to `clients` clients carries, as a multiple of what is counted on.

    `honest_of` gives, for a cohort's size m, how many honest shares make up the noise that is counted on: m clients
    bring m / honest_of(m) of it. Cohorts without an honest share open no round.
    """
    return max((m / honest_of(m) for m in range(1, clients + 1) if honest_of(m) > 0), default=1.0)


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
    """Skellam(variance) noise, int64 [size].

    The sampler works in double precision: its acceptance test is off by about 1e-16·λ·log λ relative, λ =
    variance/2 (2e-4 at z = 1 and ten clients). The accounting takes it as exact.
    """
    if variance == 0:
        return np.zeros(size, dtype=np.int64)
    rate = variance / 2
    return generator.poisson(rate, size) - generator.poisson(rate, size)


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
