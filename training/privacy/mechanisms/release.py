"""A client's vector for a round, and how the server reads the sum: ISFA in a form of bounded sensitivity.

The paper's weights w_k = n_k e^{γ s_k} / Σ_j n_j e^{γ s_j} put everybody's private n and s into everybody's
denominator, so their sum has no bounded sensitivity. Here each client weighs itself,

    a_k = n̂_k · exp(γ (s_k − 1)) ∈ [0, 1],   n̂_k = min(n_k, n_max) / n_max,

which is the paper's weight up to a factor common to all clients, and the server divides by a *public* number.

Sensitivity: a client's whole vector, update and scalars, has L2 norm at most S = C/√(1−β), β the settings'
`scalar_budget`; under zero-out adjacency (a client against its zero vector) that is how far it moves the sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common.errors import PrivFedTalkError
from training.settings.privacy import PrivacySettings

Vector = NDArray[np.float64]

# Clipping multiplies in double precision; aiming this factor below C keeps the norm of the rounded product under C.
_ROUNDING_GUARD = 1.0 - 2.0**-40


def isfa_weight(n_k: float, s_k: float, n_max: int, gamma: float) -> float:
    """a_k = n̂·exp(γ(s−1)) in [0, 1]: the ISFA weight of a client with n_k clips and reliability score s_k.

    The score is clamped to [0, 1], and NaN counts as 0, the least reliable.
    γ = 0 is FedAvg; n_k ≥ n_max for all makes the weights depend on the score alone.
    """
    n_hat = min(max(n_k, 0.0), n_max) / n_max if math.isfinite(n_k) else 0.0
    score = min(max(s_k, 0.0), 1.0) if not math.isnan(s_k) else 0.0
    return n_hat * math.exp(gamma * (score - 1.0))


def update_norm(delta: NDArray[np.floating]) -> float:
    """‖Δ‖₂ in double precision, without overflow or underflow for any finite Δ."""
    largest = float(np.max(np.abs(delta), initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * float(np.linalg.norm(np.asarray(delta, dtype=np.float64) / largest))


def clip(delta: NDArray[np.floating], C: float) -> Vector:
    """Δ · min(1, C/‖Δ‖): float64 [d] of norm at most C. Δ must be finite."""
    vector = np.asarray(delta, dtype=np.float64)
    norm = update_norm(vector)
    if norm <= C * _ROUNDING_GUARD:
        return vector.copy()
    # In two steps, so that a norm near the top of the range cannot turn C/norm into a denormal.
    largest = float(np.max(np.abs(vector)))
    return (vector / largest) * (C * _ROUNDING_GUARD * (largest / norm))


def vector_norm_bound(settings: PrivacySettings, clip_norm: float | None = None) -> float:
    """S = C/√(1−β): the norm no client's vector exceeds, in the update's units."""
    return (clip_norm or settings.clip_norm) / math.sqrt(1.0 - settings.scalar_budget)


def scalar_scale(settings: PrivacySettings, clip_norm: float | None = None) -> float:
    """The factor that brings a centred scalar to the update's scale, so that one grid and one noise serve both.

    A centred scalar has sensitivity ½. With n scalars the factor r = 2C·√(β/(n(1−β))) makes them together
    take the share β of the budget: their joint sensitivity is √n·r/2 = C√(β/(1−β)), and with noise zS on every
    coordinate the update sees z_Δ = z/√(1−β), scalar i sees σ_i = zS/r = (z/2)√(n/β), and

        z_Δ⁻² + Σ_i (½/σ_i)² = (1−β) z⁻² + β z⁻² = z⁻²:

    the `noise_multiplier` z of the settings is the effective one that the accountant takes.
    """
    beta = settings.scalar_budget
    return 2.0 * (clip_norm or settings.clip_norm) * math.sqrt(beta / (settings.scalars * (1.0 - beta)))


def client_vector(
    delta: NDArray[np.floating],
    n_k: float,
    score: float,
    metrics: Mapping[str, float],
    settings: PrivacySettings,
    clip_norm: float | None = None,
) -> Vector:
    """One client's contribution, before noise and masks: float64 [d + 2 + metrics].

    The update a_k·clip(Δ_k, C), then, centred and scaled, the weight a_k, the indicator b_k = 1[‖Δ_k‖ ≤ C] and
    the metrics in the settings' order (clamped to [0, 1]; NaN becomes 0 after centring).
    Its norm never exceeds `vector_norm_bound`. An update that is not finite yields the zero vector: the client
    takes part with its noise share alone, since dropping out would reveal that something was wrong with it.
    `clip_norm` is the round's C where adaptive clipping moved it.
    """
    if set(metrics) != set(settings.metrics):
        raise PrivFedTalkError(
            f"metrics {sorted(metrics)} were given where the settings name {sorted(settings.metrics)}",
            remedy="give each client exactly the metrics listed in privacy.metrics",
        )
    C = clip_norm or settings.clip_norm
    update = np.asarray(delta, dtype=np.float64).reshape(-1)
    if not np.isfinite(update).all():
        return np.zeros(update.size + settings.scalars)
    a_k = isfa_weight(n_k, score, settings.n_max, settings.gamma)
    b_k = float(update_norm(update) <= C)
    scalars = [a_k, b_k] + [_clamped_metric(metrics[name]) for name in settings.metrics]
    centred = (np.array(scalars) - 0.5) * scalar_scale(settings, C) * _ROUNDING_GUARD
    return np.concatenate([a_k * clip(update, C), centred])


def _clamped_metric(value: float) -> float:
    return 0.5 if math.isnan(value) else min(max(value, 0.0), 1.0)


@dataclass(frozen=True)
class RoundSum:
    """What the server reads from the noisy sum of m client vectors; nothing else of the round is in clear."""

    update: Vector  # float64 [d]: Σ u_k + noise
    weight: float  # Σ a_k + noise
    within_clip: float  # Σ b_k + noise
    metrics: dict[str, float]  # per metric: Σ over clients + noise
    clients: int  # m, known to the server


def read_sum(
    noisy_sum: Vector,
    clients: int,
    settings: PrivacySettings,
    clip_norm: float | None = None,
    seen: float | None = None,
) -> RoundSum:
    """The parts of a sum over `clients` (m) vectors, with the scaling and centring of `client_vector` undone.

    seen: takes the place of m where what is released must not depend on the true m.
    """
    d = noisy_sum.size - settings.scalars
    scalars = noisy_sum[d:] / scalar_scale(settings, clip_norm) + 0.5 * (clients if seen is None else seen)
    metrics = dict(zip(settings.metrics, map(float, scalars[2:]), strict=True))
    return RoundSum(noisy_sum[:d], float(scalars[0]), float(scalars[1]), metrics, clients)


def noise_deviation(settings: PrivacySettings, clip_norm: float | None = None) -> float:
    """zS: the deviation of the noise that is counted on, on each coordinate of the sum, in the update's units."""
    return settings.noise_multiplier * vector_norm_bound(settings, clip_norm)


def server_step(theta: NDArray[np.floating], noisy_sum: Vector, eta: float, D: float) -> Vector:
    """θ + η S̃ / D, float64 [d]; D must be public (fixed, or of earlier rounds), never a same-round ratio."""
    if not D > 0:
        raise PrivFedTalkError(f"denominator {D} is not positive", remedy="set a positive privacy.mean_weight")
    assert theta.shape == noisy_sum.shape, "the sum's scalars must be taken off before the step"
    return np.asarray(theta, dtype=np.float64) + (eta / D) * noisy_sum


def fixed_denominator(q: float, clients: int, mean_weight: float) -> float:
    """D = q·N·ā: the expected sum of the weights of a round, from public numbers alone."""
    return q * clients * mean_weight


@dataclass(frozen=True)
class LaggedDenominator:
    """max(D_min, moving average of the noisy Σ a_k of *earlier* rounds), from a public start.

    Use it where the mean weight is hard to guess. The current round divides by `value`; only afterwards does `after`
    take that round's noisy sum, so that no round is divided by its own data.
    """

    value: float
    floor: float
    decay: float = 0.7

    def after(self, noisy_weight_sum: float) -> LaggedDenominator:
        """The denominator of the next round."""
        average = self.decay * self.value + (1.0 - self.decay) * noisy_weight_sum
        return replace(self, value=max(self.floor, average))


def adapted_clip_norm(C: float, within_clip: float, settings: PrivacySettings) -> float:
    """C · exp(−rate (b̃ − quantile)) (Andrew et al. 2021, https://arxiv.org/abs/1905.03871), b̃ the noisy share of
    clients whose update was within C. Post-processing of what is released: it costs no further budget."""
    share = min(max(within_clip, 0.0), 1.0)
    return C * math.exp(-settings.clip_learning_rate * (share - settings.clip_quantile))
