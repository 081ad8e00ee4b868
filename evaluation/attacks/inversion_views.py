"""What different parties see of a round in which every client sends an update: one update, their sum, their noisy sum.

Clipping and weighing alone turn no update: they change its length, and the attack looks at directions. So the clipped
single update leaks what the raw one leaks, and has no view of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.federation.client.training import LocalUpdate
from training.federation.server.aggregation import Aggregator
from training.settings.privacy import PrivacySettings

Vector = npt.NDArray[np.float64]

RAW, SUM, NOISY = "one client's raw update", "the sum over the cohort", "the noisy sum"
LEAST_NOISE = 0.02
"""Share of an update's norm that even without noise is not the attacker's to explain: the client computes in bfloat16,
and weights in a sum are private."""


@dataclass(frozen=True)
class Seen:
    """An observed vector [d], and the share of its norm that is noise, as far as the public settings tell."""

    vector: Vector
    noise_share: float = LEAST_NOISE

    @property
    def trust(self) -> float:
        """d √(1 − ρ²) / ρ², see `evaluation.attacks.inversion`."""
        return len(self.vector) * float(np.sqrt(1 - self.noise_share**2)) / self.noise_share**2


def sums_seen(updates: Mapping[str, LocalUpdate], settings: PrivacySettings, seed: int, number: int) -> dict[str, Seen]:
    """The cohort's sum without noise and, where the settings have any, with it: through the protocol as it is run.

    Noise is drawn from the operating system even where the settings have a seed: who knows that takes it away again.
    """
    private = settings.model_copy(update={"seeded_noise": None})
    open_sum = private.model_copy(update={"mode": "none", "secure_aggregation": True})
    plain, _ = _opened(updates, open_sum, seed, number)
    seen = {SUM: Seen(plain)}
    if private.mode != "none" and private.noise_multiplier > 0:
        noisy, deviation = _opened(updates, private, seed, number)
        share = deviation * np.sqrt(len(noisy)) / float(np.linalg.norm(noisy))
        seen[NOISY] = Seen(noisy, float(np.clip(share, LEAST_NOISE, 1.0)))
    return seen


def _opened(
    updates: Mapping[str, LocalUpdate], settings: PrivacySettings, seed: int, number: int
) -> tuple[Vector, float]:
    """The opened sum of updates, float64 [d], and the deviation of the noise on each coordinate."""
    aggregator = Aggregator(settings, len(updates), seed, settings.clip_norm, denominator=1.0)
    sent = {client: aggregator.contribute(client, update, number) for client, update in updates.items()}
    return aggregator.combine(sent, number).total.update, aggregator.mechanism.noise_on_sum(len(updates))
