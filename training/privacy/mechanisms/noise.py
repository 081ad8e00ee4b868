"""Draws Skellam and Gaussian noise, and makes the generators that it comes from."""

from __future__ import annotations

import hashlib
import math
import secrets

import numpy as np
from numpy.typing import NDArray

from common.errors import PrivFedTalkError

# The largest rate at which numpy's Poisson sampler is accurate; noise of a larger rate is drawn as a sum of such parts.
# Measured: its acceptance test is off by 5e-5 at 2^34 and by 2e-2 at 2^43, variances by 10 % at 2^49, and from 2^53 on
# all its draws are even.
LARGEST_PART = 2.0**34
# Parts take time. More than 64 of them means that the grid did not follow the noise.
LARGEST_RATE = 2.0**40


def skellam_noise(variance: float, size: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Skellam(variance) noise, int64 [size]; a sum of equal parts where the rate is too large for the sampler.

    PrivFedTalkError beyond `LARGEST_RATE`. The sampler works in double precision: the log of a Poisson's mass is off by
    about 1e-16·λ·log λ, λ = variance/2, at most 5e-5 in a part (tests compare variance, parity and tails). The
    accounting takes it as exact.
    """
    if not 0 <= variance <= 2 * LARGEST_RATE:
        raise PrivFedTalkError(
            f"Skellam noise of variance {variance:.3g}, where at most {2 * LARGEST_RATE:.3g} is drawn correctly",
            remedy="round to a grid that follows the noise (grid.grid_over_clip), or tolerate fewer colluders",
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
