"""The paper's aggregation to the letter (section 4.6), `privacy.mode: local_no_proof`: it has no client-level proof.

    client   Δ̃_k = Δ_k · min(1, C/‖Δ_k‖) + N(0, σ²C² I), and its clip count n_k and score s_k in clear
    server   w_k = n_k e^{γ s_k} / Σ_j n_j e^{γ s_j},   θ ← θ + η Σ_k w_k Δ̃_k

Why no ε is claimed for it. One client's n and s stand in everybody's weight, so zeroing that client moves all other
terms of the average too, and by how much depends on the others' data. The average keeps noise of deviation σC √(Σ w²),
which is smaller the more even the weights are, and a client can change it by its n. The scalars are not private at all.

The server needs every n and s by itself, so no sum can hide them: there is no secure aggregation of this form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from training.privacy.mechanisms.base import ClientUpdate, Mechanism
from training.privacy.mechanisms.noise import gaussian_noise
from training.privacy.mechanisms.release import RoundSum, Vector, clip, isfa_weight, update_norm
from training.settings.privacy import NO_PROOF

SCALARS = 3
"""n_k, s_k and 1[‖Δ_k‖ ≤ C], at the end of a client's message."""


def client_message(
    delta: NDArray[np.floating], n_k: int, s_k: float, C: float, deviation: float, generator: np.random.Generator
) -> Vector:
    """Δ̃_k and the three scalars as they are, float64 [d + 3]; `deviation` is σC. Without a finite update n_k = 0."""
    update = np.asarray(delta, dtype=np.float64).reshape(-1)
    score = 0.0 if math.isnan(s_k) else min(max(s_k, 0.0), 1.0)
    if not np.isfinite(update).all():
        return np.concatenate([np.zeros_like(update), [0.0, score, 0.0]])
    noisy = clip(update, C) + gaussian_noise(deviation, update.size, generator)
    return np.concatenate([noisy, [n_k, score, float(update_norm(update) <= C)]])


def paper_weight(n_k: float, s_k: float, gamma: float) -> float:
    """n_k e^{γ (s_k − 1)}: a client's weight before the division, without the factor e^γ that all clients share."""
    return n_k * isfa_weight(1, s_k, 1, gamma)


def weighted_sum(messages: Sequence[NDArray[np.floating]], gamma: float) -> Vector:
    """On the server: Σ a_k Δ̃_k, then Σ a_k, Σ 1[‖Δ_k‖ ≤ C] and Σ s_k, float64 [d + 3], with a_k ∝ n_k e^{γ s_k}."""
    total = np.zeros(len(messages[0]))
    for message in messages:
        n_k, s_k, within = map(float, message[-SCALARS:])
        a_k = paper_weight(n_k, s_k, gamma)
        total[:-SCALARS] += a_k * message[:-SCALARS]
        total[-SCALARS:] += a_k, within, s_k
    return total


def read_sum(total: Vector, clients: int) -> RoundSum:
    """The parts of a `weighted_sum`; update over weight is the paper's Σ w_k Δ̃_k."""
    weight, within, score = map(float, total[-SCALARS:])
    return RoundSum(total[:-SCALARS], weight, within, {"score": score}, clients)


class PaperLiteral(Mechanism):
    """Each client adds N(0, (zC)²) to its own clipped update and sends its n_k and s_k in clear; the server divides by
    the weights' own sum. Choose it for comparisons with the paper only, on data that need no protection.

    Sensitivity: none is known, in any norm, under any adjacency: zeroing one client moves all other terms of the
    weighted mean by an amount that the others' private n and s decide (see above). No theorem applies, hence no ε.
    """

    no_guarantee: ClassVar[str] = (
        f"The paper's formulas as they stand (mode {NO_PROOF}) have no client-level proof: weights divide by "
        "everybody's private clip counts and scores, which the server saw in clear, so that no bound on one "
        "client's part is known and no ε follows from the noise."
    )

    @property
    def deviation(self) -> float:
        """zC, of the noise on each client's own update."""
        return self.settings.noise_multiplier * self.clip_norm

    def protect(self, update: ClientUpdate, client: str, round_number: int) -> tuple[NDArray[Any], float]:
        """The noisy update and its scalars in clear, float32 [d + 3], and n_k e^{γ (s_k − 1)}."""
        generator = self._generator(client, round_number)
        message = client_message(update.delta, update.clips, update.score, self.clip_norm, self.deviation, generator)
        n_k, s_k, _ = message[-SCALARS:]
        return message.astype(np.float32), paper_weight(n_k, s_k, self.settings.gamma)

    def plain_sum(self, vectors: Sequence[NDArray[Any]]) -> Vector:
        return weighted_sum(vectors, self.settings.gamma)

    def read_sum(self, total: Vector, clients: int) -> RoundSum:
        return read_sum(total, clients)

    def norm_bound(self, total: RoundSum) -> float:
        """As in the base class, with Σ a_k in place of m: updates and noise both grow with it."""
        return total.weight * (self.clip_norm + self.deviation * self._noise_length(total))
