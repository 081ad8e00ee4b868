"""Cuts at the quietest places, compared with all possible cuts, and gaps where one split ends and the next begins."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from preparation.crops.cutting import (
    CUT_PRICE,
    CutPlan,
    cut_recording,
    cut_stretch,
    loudness_levels,
    part_stretches,
)

SHORTEST, LONGEST = 75, 250


def speech(seconds: float, pauses: list[float], pause_seconds: float = 0.3, seed: int = 0) -> NDArray[np.int16]:
    """Syllables of hiss at 4 a second, each with 60 ms of less, and pauses that begin at the given seconds."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16_000)) / 16_000
    loud = np.where(time % 0.25 < 0.19, 1.0, 0.25) * (0.7 + 0.3 * np.sin(2 * np.pi * time / 1.7))
    for start in pauses:
        loud[(time >= start) & (time < start + pause_seconds)] = 0.005
    return (6000 * loud * rng.normal(size=len(time))).clip(-32768, 32767).astype(np.int16)


def price_of(cut: list[slice], levels: NDArray[np.float64]) -> float:
    """Each cut costs the mean level of the two frames beside it, and the price of any cut."""
    return sum(float(levels[piece.start - 1] + levels[piece.start]) / 2 + CUT_PRICE for piece in cut[1:])


@pytest.mark.parametrize(("shortest", "longest"), [(1, 2), (2, 5), (3, 6), (3, 9)])
def test_no_other_cuts_cost_less(shortest: int, longest: int) -> None:
    for seed in range(25):
        rng = np.random.default_rng(seed)
        length = int(rng.integers(longest + 1, 17))
        levels = rng.uniform(size=length)
        possible = [
            edges
            for count in range(length // shortest)
            for inner in combinations(range(1, length), count)
            for edges in [(0, *inner, length)]
            if all(shortest <= stop - start <= longest for start, stop in pairwise(edges))
        ]
        cheapest = min(price_of([slice(*pair) for pair in pairwise(edges)], levels) for edges in possible)
        found = cut_stretch(levels, shortest, longest)
        assert price_of(found, levels) == pytest.approx(cheapest)


@pytest.mark.parametrize("length", [1, 74, 75, 149, 250, 251, 299, 500, 501, 777, 10_000])
def test_pieces_hold_every_frame_once_and_have_the_lengths_asked_for(length: int) -> None:
    levels = np.random.default_rng(length).uniform(size=length)
    pieces = cut_stretch(levels, SHORTEST, LONGEST)
    edges = [pieces[0].start, *(piece.stop for piece in pieces)]
    assert edges[0] == 0 and edges[-1] == length and all(one.stop == other.start for one, other in pairwise(pieces))
    if length > LONGEST:
        assert all(SHORTEST <= piece.stop - piece.start <= LONGEST for piece in pieces)
    else:
        assert len(pieces) == 1
    assert pieces == cut_stretch(levels, SHORTEST, LONGEST)


def test_silence_is_cut_no_more_than_needed() -> None:
    assert len(cut_stretch(np.zeros(1000), SHORTEST, LONGEST)) == 4
    assert len(cut_stretch(np.full(1000, 0.7), SHORTEST, LONGEST)) == 4
    assert cut_stretch(np.zeros(0), SHORTEST, LONGEST) == []


def test_lengths_that_cannot_cut_everything_are_refused() -> None:
    with pytest.raises(ValueError, match="at least twice"):
        cut_stretch(np.zeros(500), 150, 250)


def test_speech_is_cut_in_its_pauses_and_not_between_syllables() -> None:
    pauses = [4.1, 8.3, 13.0, 19.4, 24.9, 28.2, 36.5]
    levels = loudness_levels(speech(42, pauses), 42 * 25)
    assert levels.shape == (1050,) and levels.min() >= 0 and levels.max() == 1
    cuts = [piece.start / 25 for piece in cut_stretch(levels, SHORTEST, LONGEST)[1:]]
    assert len(cuts) >= 4
    assert all(any(start <= cut <= start + 0.3 for start in pauses) for cut in cuts)


def test_levels_do_not_depend_on_the_recordings_volume_and_silence_is_zero() -> None:
    sound = speech(4, [2.0])
    np.testing.assert_allclose(loudness_levels(sound // 2, 100), loudness_levels(sound, 100), atol=1e-3)
    assert not loudness_levels(np.zeros(64_000, np.int16), 100).any()


def test_a_gap_parts_the_sides_where_the_least_is_lost() -> None:
    levels = loudness_levels(speech(40, [19.2], pause_seconds=1.0), 1000)
    plan = CutPlan(SHORTEST, LONGEST, gap=25, shift=75, borders=(0.5,))
    (before, after) = part_stretches([slice(0, 1000)], levels, plan)
    assert after.start - before.stop == 25 and (before.start, after.stop) == (0, 1000)
    assert abs(before.stop - 480) <= 2, "the pause is taken for the gap, not the place of the border"
    still = CutPlan(SHORTEST, LONGEST, gap=25, shift=0, borders=(0.5,))
    assert part_stretches([slice(0, 1000)], levels, still) == [slice(0, 488), slice(513, 1000)]


def test_a_break_between_shots_is_a_gap_already() -> None:
    levels = np.ones(1000)
    plan = CutPlan(SHORTEST, LONGEST, gap=25, shift=75, borders=(0.5,))
    stretches = [slice(0, 470), slice(500, 970)]
    assert part_stretches(stretches, levels, plan) == stretches, "nothing is lost"
    # Without one, a shot change takes the gap from one of the shots.
    joined = part_stretches([slice(0, 500), slice(500, 1000)], levels, plan)
    assert sum(each.stop - each.start for each in joined) == 975


def test_shares_count_the_frames_with_a_face() -> None:
    """The border lies in the middle of what is shown, not of the recording."""
    plan = CutPlan(SHORTEST, LONGEST, gap=25, borders=(0.5,))
    first, second = part_stretches([slice(600, 1000)], np.ones(1000), plan)
    assert (first, second) == (slice(600, 788), slice(813, 1000))


@pytest.mark.parametrize("gap", [0, 10, 25])
@pytest.mark.parametrize("seed", range(6))
def test_pieces_keep_their_sides(seed: int, gap: int) -> None:
    """Between borders all is in pieces; no piece crosses a border, and beside each a gap is free."""
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.choice(np.arange(1, 40), 5, replace=False)) * 50
    stretches = [slice(int(edges[0]), int(edges[1])), slice(int(edges[1]), int(edges[2])), slice(int(edges[3]), 2000)]
    plan = CutPlan(SHORTEST, LONGEST, gap=gap, shift=20, borders=(0.5, 0.75))
    pieces = cut_recording(stretches, rng.uniform(size=2000), plan)
    assert all(one.stop <= other.start for one, other in pairwise(pieces))
    inside = np.zeros(2000, bool)
    for stretch in stretches:
        inside[stretch] = True
    assert all(any(each.start <= piece.start and piece.stop <= each.stop for each in stretches) for piece in pieces)
    covered = sum(piece.stop - piece.start for piece in pieces)
    assert inside.sum() - 2 * gap <= covered <= inside.sum()
    counted = np.cumsum(inside)
    for border in plan.borders:
        place = int(np.searchsorted(counted, int(border * counted[-1]) + 1))
        near = [piece for piece in pieces if piece.start < place + 45 and piece.stop > place - 45]
        free = [other.start - one.stop for one, other in pairwise(near)]
        assert gap == 0 or max(free, default=gap) >= gap
