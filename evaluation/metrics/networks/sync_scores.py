"""LSE-D, LSE-C and offset from embeddings of picture and sound: the arithmetic of SyncNet's published evaluation.

Chung and Zisserman 2016; the names are Wav2Lip's (Prajwal et al. 2020). Window t of the picture is compared with the
sound of the windows t − 15 … t + 15, and distances are averaged over t for each shift. Of the resulting curve over the
shifts, the lowest value is LSE-D, its depth below the median is LSE-C, and its position is the offset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.metrics.arrays import Floats, Values

LIMIT = 15
"""The largest shift of the sound in either direction, frames."""

EPSILON = 1e-6
"""What torch's `pairwise_distance` adds to every difference."""


@dataclass(frozen=True)
class SyncScore:
    """lse_d: lower is better. lse_c: higher is better. offset: frames by which the sound is early, 0 when in sync."""

    lse_d: float
    lse_c: float
    offset: int


def sync_score(mean_distances: Values) -> SyncScore:
    """The scores of a curve of mean distances over the shifts −limit … limit, float64 [2 limit + 1]."""
    lowest = int(mean_distances.argmin())
    depth = float(np.median(mean_distances)) - float(mean_distances[lowest])
    return SyncScore(float(mean_distances[lowest]), depth, len(mean_distances) // 2 - lowest)


class ShiftDistances:
    """Mean distance at each shift, from embeddings that are added in order; keeps 2 limit windows in memory.

    Beyond both ends of the sound the *embedding* is zero, as in the published procedure, not the samples.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._seen: list[Floats] = []
        self._heard: list[Floats] = []
        self._sums = np.zeros(2 * limit + 1)
        self._count = 0

    def add(self, seen: Floats, heard: Floats) -> None:
        """Add the next windows' embeddings, [B, D] each, not normalised."""
        if not self._heard:
            self._heard = [np.zeros((self._limit, heard.shape[1]), np.float32)]
        self._seen.append(seen)
        self._heard.append(heard)
        self._compare()

    def means(self) -> Values:
        """Mean distances, float64 [2 limit + 1]; entry limit + k compares the picture with the sound k windows later.

        No window may be added after this call. Raises ValueError where none was added.
        """
        if self._count == 0 and not self._seen:
            raise ValueError("no window was added, so there is no distance")
        self._heard.append(np.zeros((self._limit, self._heard[0].shape[1]), np.float32))
        self._compare()
        return self._sums / self._count

    def _compare(self) -> None:
        seen, heard = np.concatenate(self._seen), np.concatenate(self._heard)
        # Picture window i lies over sound windows i … i + 2 limit: the sound began `limit` zeros earlier.
        ready = min(len(seen), len(heard) - 2 * self._limit)
        for index in range(ready):
            difference = seen[index] - heard[index : index + 2 * self._limit + 1] + np.float32(EPSILON)
            self._sums += np.linalg.norm(difference, axis=1)
        ready = max(ready, 0)
        self._count += ready
        self._seen, self._heard = [seen[ready:]], [heard[ready:]]
