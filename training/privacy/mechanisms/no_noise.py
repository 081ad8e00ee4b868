"""Clipping and weighing alone: `privacy.mode: none`."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from training.privacy.mechanisms.base import ClientUpdate, Mechanism
from training.privacy.mechanisms.release import Vector


class NoNoise(Mechanism):
    """No noise, hence no ε. Choose it for ablations and baselines, on data that need no protection.

    Sensitivity: L2, zero-out adjacency, S = C/√(1−β) as in the other mechanisms (`release.client_vector`); with no
    noise over it no guarantee follows from that.
    """

    no_guarantee: ClassVar[str] = "No noise was added (mode none): the figures describe no guarantee."
    fewest_masked: ClassVar[int] = 2  # the sum over one hides nothing

    def bounded(self, update: ClientUpdate) -> tuple[Vector, float]:
        """As in the other mechanisms; an update that is not finite becomes an update of weight zero."""
        if np.isfinite(update.delta).all():
            return super().bounded(update)
        return self._client_vector(update, np.zeros_like(update.delta), 0), 0.0

    def shows_parts(self) -> bool:
        return not self.settings.secure_aggregation
