"""Gaussian noise that one trusted aggregator adds to the exact sum: `privacy.mode: central`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.privacy.mechanisms import grid, noise, release
from training.privacy.mechanisms.base import Mechanism
from training.privacy.mechanisms.release import Vector


class CentralGaussian(Mechanism):
    """One party sees the exact sum and adds N(0, (zS)²) to each coordinate, once. Choose it where that party may be
    trusted: tight accountants apply, so ε is slightly smaller than with distributed noise of the same z.

    Sensitivity: L2, zero-out adjacency, S = C/√(1−β) (`release.client_vector`), and S + r under masks, r what rounding
    to their grid adds. Theorem: the Gaussian mechanism of multiplier z (Dwork and Roth 2014, appendix A), composed by
    PLD; see `server_deviation` for the proof under masks.
    """

    @property
    def deviation(self) -> float:
        return release.noise_deviation(self.settings, self.clip_norm)

    def in_clear(self, vector: Vector) -> NDArray[np.float32]:
        """The vector as sent without masks, shortened a little so that rounding to float32 cannot lengthen it."""
        return (vector * (1 - 2.0**-24)).astype(np.float32)

    def add_noise(self, total: Vector, round_number: int, survivors: int) -> Vector:
        generator = self._generator("server", round_number)
        return total + noise.gaussian_noise(self.server_deviation(len(total)), len(total), generator)

    def noise_on_sum(self, clients: int, dimension: int = 0) -> float:
        """The deviation of the server's noise, which is the same however many clients are in the sum."""
        return self.server_deviation(dimension)

    def server_deviation(self, dimension: int) -> float:
        """The deviation of the server's noise on a sum of vectors of `dimension` coordinates, scalars included: zS,
        and with masks z(S + r), r what rounding to their grid adds to a vector's norm.

        Proof. A client moves the sum by its rounded vector, of norm at most S + r (`grid.rounding_bound`), and the
        noise is z times that: a Gaussian mechanism of multiplier z, which is what is accounted. ∎
        """
        if not self.settings.secure_aggregation:
            return self.deviation
        bound = release.vector_norm_bound(self.settings, self.clip_norm)
        return self.deviation * (1 + grid.rounding_bound(bound, self.grid, dimension) / bound)
