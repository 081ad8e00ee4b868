"""The Rényi divergence curve of the Skellam mechanism: the one accounting formula that no library computes for us.

A sum in ℤ^d moves by at most Δ₂ (L2) and Δ₁ (L1) when a client is zeroed out, and carries Skellam noise of
variance μ on each coordinate. At whole orders α ≥ 2 (Agarwal, Kairouz, Liu 2021, Theorem 3.5,
https://arxiv.org/abs/2110.04995):

    D_α ≤ αΔ₂²/2μ + min(((2α−1)Δ₂² + 6Δ₁)/4μ², 3Δ₁/2μ).

Between whole orders, needed where ε is large and the best order lies between 1 and 2, we use

    D_α ≤ αcΔ₂²/2 + dc/(8(α−1)),   c = 2·log((½ + √(μ² + 9/4))/μ) ≈ 1/μ.

Proof. Let V = −log p on ℤ, p Skellam's mass function: p(k) ∝ I_|k|(μ). Its second difference is at most c. By
Neumann's formula (DLMF 10.32.15) 1 − I_{k−1}I_{k+1}/I_k² is the mean of 2sin²θ on [0, π/2] under a density
∝ I_{2k}(2μ cos θ). As I_{2k+2}/I_{2k} increases in its argument, that density moves towards θ = 0 as k grows, so k = 0
is the worst: V's second difference is at most −2·log(I_1/I_0), and Amos (1974) has I_1/I_0 ≥ μ/(½ + √(μ² + 9/4)).

So W(k) = V(k) − ck²/2 is concave; extend W linearly between integers and let V̄(x) = W(x) + cx²/2. With s = α−1 the
point y is the mean of y − sΔ and y + Δ with weights 1/(1+s) and s/(1+s), so concavity of W gives

    (1+s)V(y) − sV(y+Δ) ≥ V̄(y − sΔ) − cs(1+s)Δ²/2.

Summing exp(−·) over y: e^{s·D_α} ≤ e^{cs(1+s)Δ²/2} · Σ_y e^{−V̄(y − sΔ)}, and as e^{−V̄} between k and k+1 is at most
e^{c/8} times the linear interpolation of p, the last sum is at most e^{c/8} (and is 1 for whole s). Coordinates are
independent and at most d of them move: add up. ∎
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from dp_accounting import rdp

from training.privacy.mechanisms.grid import grid_over_clip, integer_sensitivities

# Orders for plain composition: the best lies near 1 + √(log(1/δ)/ρ), from 1.01 (the conversion's limit) upwards.
_ORDERS = np.unique(np.concatenate([1 + np.geomspace(0.0101, 1, 400), np.linspace(2, 12, 201), np.arange(12, 1025)]))


@dataclass(frozen=True)
class SkellamNoise:
    """The integer mechanism of one round, in grid steps."""

    variance: float  # μ of the noise on each coordinate of the sum
    l2: float  # Δ₂
    l1: float  # Δ₁
    dimension: int  # d, scalars included

    @classmethod
    def of(
        cls, noise_multiplier: float, dimension: int, norm_over_clip: float = 1.0, steps: float | None = None
    ) -> SkellamNoise:
        """The mechanism with noise zS for vectors of norm S = norm_over_clip·C on the grid g = C/steps: μ = (zS/g)²,
        and the sensitivities of rounded vectors. steps None: the grid that the aggregator rounds to."""
        if steps is None:
            steps = 1 / grid_over_clip(noise_multiplier, norm_over_clip)
        l2, l1 = integer_sensitivities(norm_over_clip, 1 / steps, dimension)
        return cls((noise_multiplier * norm_over_clip * steps) ** 2, l2, l1, dimension)

    def scaled(self, share: float) -> SkellamNoise:
        """The mechanism with this share of the noise variance: the noise left for somebody who knows the rest of it."""
        return replace(self, variance=self.variance * share)


def renyi_divergence(noise: SkellamNoise, order: float) -> float:
    """The bound on D_α above for one sum, in both directions (the noise is symmetric); order > 1."""
    mu, l2_squared = noise.variance, noise.l2**2
    if mu <= 1:
        return math.inf
    if float(order).is_integer():
        excess = min(((2 * order - 1) * l2_squared + 6 * noise.l1) / (4 * mu**2), 3 * noise.l1 / (2 * mu))
        return order * l2_squared / (2 * mu) + excess
    c = curvature(mu)
    return order * c * l2_squared / 2 + noise.dimension * c / (8 * (order - 1))


def curvature(mu: float) -> float:
    """c of the module's docstring, to full precision where it is tiny: √(μ² + 9/4) − μ = (9/4)/(√(μ² + 9/4) + μ)."""
    return 2 * math.log1p((0.5 + 2.25 / (math.sqrt(mu**2 + 2.25) + mu)) / mu)


@lru_cache(maxsize=4096)  # asked for again by every plan, report and round of a run
def composed_epsilon(noise: SkellamNoise, rounds: int, delta: float) -> float:
    """ε after `rounds` sums, without amplification: RDP adds up, and dp_accounting converts."""
    curve = [rounds * renyi_divergence(noise, float(order)) for order in _ORDERS]
    epsilon, _ = rdp.compute_epsilon(_ORDERS, curve, delta)
    return float(epsilon)


def dominating_noise_multiplier(noise: SkellamNoise) -> float:
    """A Gaussian noise multiplier z' whose curve α/2z'² lies above the Skellam curve at all whole orders α ≥ 2.

    At those orders the excess term is at most αΔ₂²/2μ² + max(0, 6Δ₁ − Δ₂²)/4μ², or 3Δ₁/2μ, and a constant x is at
    most αx/2. Poisson sampling keeps the order: with mixture Q' = (1−q)Q + qP, whole α,

        exp((α−1)·D_α(Q'‖Q)) = Σ_l C(α,l)(1−q)^{α−l} q^l exp((l−1)·D_l(P‖Q))

    grows in each D_l, so the sampled Gaussian's bound covers the sampled Skellam's; the reverse direction
    D_α(Q‖Q') is never larger, since x ↦ Δ − x swaps P and Q (Mironov, Talwar, Zhang 2019, Theorem 5,
    https://arxiv.org/abs/1908.10530).
    """
    mu, l2_squared = noise.variance, noise.l2**2
    if mu <= 1:
        return 0.0
    first = l2_squared / (2 * mu**2) + max(0.0, 6 * noise.l1 - l2_squared) / (8 * mu**2)
    slope = l2_squared / (2 * mu) + min(first, 3 * noise.l1 / (4 * mu))
    return math.sqrt(1 / (2 * slope))
