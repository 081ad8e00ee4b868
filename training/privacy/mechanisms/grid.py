"""The integer grid that masked vectors are rounded to, what rounding adds to their norm, and the sums' ring."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from common.errors import PrivFedTalkError

RingVector: TypeAlias = NDArray[np.unsignedinteger[Any]]  # uint32 or uint64

# g = C / 2^20 where noise is small: rounding then adds under 0.05 % to the sensitivity of a million parameters.
STEPS_PER_CLIP = 2**20
# Noise of a larger deviation, in steps, gets a coarser grid: the noise on the sum has a Poisson rate of at most 2^35.
STEPS_PER_DEVIATION = 2**18
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
    """g/C of the grid that vectors are rounded to: max(2^-20, zS/C / 2^18), S/C = norm_over_clip.

    The grid follows the noise: however large z is, the noise on a sum has a deviation of at most 2^18 steps, which the
    sampler draws correctly. `integer_sensitivities` counts what the coarser grid costs. Both the aggregator and the
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
