from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from preparation.faces.track import Track, bridge_gaps, longest_segment, smooth


def line(seen: list[bool]) -> np.ndarray:
    """Landmarks that move by one pixel a frame, NaN where unseen: [T, 68, 2]."""
    landmarks = np.broadcast_to(np.arange(len(seen), dtype=np.float32)[:, None, None], (len(seen), 68, 2)).copy()
    landmarks[~np.array(seen)] = np.nan
    return landmarks


def test_short_gaps_are_bridged_and_long_ones_cut() -> None:
    seen = [False] + [True] * 5 + [False] * 2 + [True] * 3 + [False] * 4 + [True] * 2
    filled, segments = bridge_gaps(line(seen), longest=3)
    assert segments == [slice(1, 11), slice(15, 17)]
    np.testing.assert_allclose(filled[1:11, 0, 0], np.arange(1, 11))
    assert np.isnan(filled[11:15]).all() and np.isnan(filled[0]).all()
    assert longest_segment(segments) == slice(1, 11)


def test_no_face_no_segment() -> None:
    _, segments = bridge_gaps(line([False] * 4), longest=3)
    assert segments == [] and longest_segment(segments) == slice(0, 0)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 5))
@settings(max_examples=100)
def test_laws_of_segments(seen: list[bool], longest: int) -> None:
    landmarks = line(seen)
    filled, segments = bridge_gaps(landmarks, longest)
    inside = np.zeros(len(seen), dtype=bool)
    for segment in segments:
        assert seen[segment.start] and seen[segment.stop - 1]
        inside[segment] = True
        np.testing.assert_allclose(filled[segment], line([True] * len(seen))[segment], atol=1e-4)
    # Every seen frame is in a segment, every unseen one between two far ones is not.
    assert (inside | ~np.array(seen)).all()
    assert np.isnan(filled[~inside]).all()
    for before, after in pairwise(segments):
        assert after.start - before.stop > longest


def test_smoothing_has_no_lag() -> None:
    step = line([True] * 41)
    np.testing.assert_allclose(smooth(step, 1.0)[10:-10], step[10:-10], atol=1e-3)
    assert smooth(step, 0) is step


def test_face_rate_counts_only_frames_looked_at() -> None:
    track = Track(line([True] * 4), np.array([1, -1, 0, 2], dtype=np.int16))
    assert track.face_rate == 2 / 3
