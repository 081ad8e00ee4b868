"""Views of a round in which every client sends an update: a single update, the sum, the noisy sum.

Clipping and weighing change the length of an update and not its direction, and the attack uses the direction alone. So
the clipped update leaks what the raw one leaks, and has no view of its own.
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
"""Share of an update's norm that the attacker cannot explain even without noise: the client computes in bfloat16, and
the weights in a sum are private."""


@dataclass(frozen=True)
class Seen:
    """An observed vector [d], and the share of its norm that is noise, estimated from the public settings."""

    vector: Vector
    noise_share: float = LEAST_NOISE

    @property
    def trust(self) -> float:
        """d √(1 − ρ²) / ρ², see `evaluation.attacks.inversion`."""
        return len(self.vector) * float(np.sqrt(1 - self.noise_share**2)) / self.noise_share**2


def sums_seen(updates: Mapping[str, LocalUpdate], settings: PrivacySettings, seed: int, number: int) -> dict[str, Seen]:
    """The cohort's sum without noise and, where the settings have noise, with it, made by the real protocol.

    Noise is drawn from the operating system even where the settings have a seed, which would let it be subtracted.
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
