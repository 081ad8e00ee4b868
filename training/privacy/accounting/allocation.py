"""Random allocation: each client takes part in exactly one round of every block of t rounds, drawn by itself.

The accountant is the privacy loss distribution of Feldman and Shenfeld 2026 (https://arxiv.org/abs/2602.17284), in
their package: one block of t Gaussian sums, composed as often as there are blocks. The rounds of an unfinished block
are a part of what the whole block would show, so they cost no more.

A client's update may depend on all earlier sums. Given those, its direction is fixed, and what a sum says beyond its
part along that direction is noise with the client and without. So each sum counts as one number, which the client moves
by at most the sensitivity, and a smaller move is a larger one with more noise.

Its adjacency is add/remove: a block whose client is in a random one of its t sums, against the same block without that
client. Zero-out is the same pair here. A client that sends zeros is in the cohort of its round, but nothing that is
released depends on a cohort's size (`training.privacy.mechanisms.poisson_sampling`): neither the noise of a sum nor the
number that it is divided by. So the sums of a client of zeros are distributed like the sums without that client, and
the factor between the two adjacencies is one. That fails where cohorts can be told apart by anything else, which is why
a round that hung on one client takes the amplification away (`Schedule.amplifies`).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

# The grid of losses is a tenth of a first guess of ε, as far as this many points reach: at most two seconds of work,
# and an ε that is two to five percent above the truth.
_STEPS = 10
_GRID_POINTS = 10_000
# Above this ε means nothing, and the package's numbers overflow: no amplification is claimed.
_LARGEST_GUESS = 100.0
_SMALLEST_GUESS = 1e-3
# Chance of a loss beyond the grid, as a part of δ.
_TAIL = 1e-2


@lru_cache(maxsize=4096)
def allocation_epsilon(length: int, noise_multiplier: float, blocks: int, delta: float, guess: float) -> float:
    """An upper bound on ε of `blocks` blocks of `length` Gaussian sums, the client in one sum of each.

    guess: a rough ε, such as that of Poisson sampling at the same rate, which decides how fine the grid is. Infinite
    where that is above 100, or where the package cannot hold the losses in its numbers.
    """
    if not guess < _LARGEST_GUESS:
        return math.inf
    return allocation_bound(length, noise_multiplier, blocks, delta, max(guess, _SMALLEST_GUESS) / _STEPS)


def allocation_bound(
    length: int,
    noise_multiplier: float,
    blocks: int,
    delta: float,
    interval: float,
    upper: bool = True,
) -> float:
    """An upper or a lower bound on that ε, on a grid of losses `interval` apart; infinite where numbers overflow."""
    from PLD_accounting import (  # takes seconds
        AllocationSchemeConfig,
        BoundType,
        PrivacyParams,
        gaussian_allocation_epsilon_configurable,
    )

    params = PrivacyParams(sigma=noise_multiplier, num_steps=length, num_epochs=blocks, delta=delta)
    config = AllocationSchemeConfig(
        loss_discretization=interval,
        tail_truncation=delta * _TAIL,
        max_grid_mult=_GRID_POINTS,
    )
    kind = BoundType.DOMINATES if upper else BoundType.IS_DOMINATED
    try:
        # The package goes on with what overflowed, and its bound would then be none.
        with np.errstate(over="raise", invalid="raise"):
            return float(gaussian_allocation_epsilon_configurable(params=params, config=config, bound_type=kind))
    except (ValueError, ArithmeticError):
        return math.inf
