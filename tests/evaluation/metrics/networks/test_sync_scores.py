"""Windows, shifts, padding, and how the curve is read: on embeddings whose offset is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluation.metrics.arrays import Floats, Values
from evaluation.metrics.networks.sync_scores import LIMIT, ShiftDistances, sync_score

RNG = np.random.default_rng(0)


def published(seen: Floats, heard: Floats, limit: int = LIMIT) -> Values:
    """The procedure written out with torch's own padding and distance, window by window."""
    padded = torch.nn.functional.pad(torch.from_numpy(heard), (0, 0, limit, limit))
    distances = [
        torch.nn.functional.pairwise_distance(
            torch.from_numpy(seen[[t]]).repeat(2 * limit + 1, 1), padded[t : t + 2 * limit + 1]
        )
        for t in range(len(seen))
    ]
    return torch.stack(distances, 1).mean(1).double().numpy()


def embeddings(windows: int, sound_late: int = 0, noise: float = 0.3) -> tuple[Floats, Floats]:
    """A picture and its sound, which comes `sound_late` windows after it; lengths are far from one."""
    moments = 4 * RNG.normal(size=(windows + 40, 64)).astype(np.float32)
    seen = moments[20 : 20 + windows]
    heard = moments[20 - sound_late : 20 - sound_late + windows]
    return seen, heard + noise * RNG.normal(size=heard.shape).astype(np.float32)


def mean_distances(seen: Floats, heard: Floats, batch: int = 20) -> Values:
    meter = ShiftDistances()
    for start in range(0, len(seen), batch):
        meter.add(seen[start : start + batch], heard[start : start + batch])
    return meter.means()


@pytest.mark.parametrize("windows", [1, 7, 15, 31, 90])
@pytest.mark.parametrize("batch", [1, 20, 100])
def test_streamed_distances_are_the_published_ones(windows: int, batch: int) -> None:
    """Also for clips so short that most shifts meet nothing but padding."""
    seen, heard = embeddings(windows)
    np.testing.assert_allclose(mean_distances(seen, heard, batch), published(seen, heard), rtol=1e-5)


@pytest.mark.parametrize("late", [-12, -3, 0, 1, 9])
def test_a_known_offset_is_found(late: int) -> None:
    """Sound that comes late is an offset below zero: 15 minus the place of the minimum."""
    seen, heard = embeddings(120, sound_late=late)
    curve = mean_distances(seen, heard)
    score = sync_score(curve)
    assert score.offset == -late
    assert score.lse_d == curve.min() and score.lse_c == pytest.approx(float(np.median(curve) - curve.min()))
    assert score.lse_c > 10  # the others lie 8 x 64^½ away


def test_embeddings_keep_their_length() -> None:
    seen, heard = embeddings(60)
    once, twice = (sync_score(mean_distances(factor * seen, factor * heard)) for factor in (1, 2))
    assert twice.lse_d == pytest.approx(2 * once.lse_d, rel=1e-4)
    assert twice.lse_c == pytest.approx(2 * once.lse_c, rel=1e-4)


def test_strangers_have_no_confidence() -> None:
    seen, _ = embeddings(200)
    _, heard = embeddings(200)
    assert sync_score(mean_distances(seen, heard)).lse_c < 2


def test_memory_is_that_of_thirty_windows() -> None:
    meter = ShiftDistances()
    for _ in range(50):
        meter.add(*embeddings(20))
        assert sum(len(part) for part in (*meter._seen, *meter._heard)) <= 20 + 3 * LIMIT + LIMIT


def test_no_window_has_no_distance() -> None:
    with pytest.raises(ValueError, match="no window"):
        ShiftDistances().means()
