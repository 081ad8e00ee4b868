"""Where a recording is cut into pieces: at the quietest places, and with gaps between the sides of a split.

Everything here counts frames of 25 a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from preparation.media.rates import SAMPLES_PER_FRAME

Levels = NDArray[np.float64]
"""float64 [T], loudness of each frame, 0-1; see `loudness_levels`."""

SMOOTHING_FRAMES = 2.0
"""Gaussian sigma of the loudness: silence within a word is shorter than this, a pause between words is longer."""
LOUD_QUANTILE = 0.95
RANGE_DECIBELS = 30.0
BLOCK_FRAMES = 6400
"""Frames whose sound is measured at once: three hours as float32, with their squares, would take 1.4 GB."""
CUT_PRICE = 0.5
"""Price of a cut, in levels: less than the level of speech, so that one more piece is made only where that moves a cut
from speech into a pause."""
SILENT_PRICE = 0.2
"""Price, in levels, of a frame that a gap takes, beside its own level: even silence is worth keeping."""


@dataclass(frozen=True)
class CutPlan:
    """How one recording is to be cut: lengths in frames, and where its samples change from one split to the next.

    `borders` are shares of the recording's usable frames, in rising order; a gap of `gap` frames is left out around
    each, which may move by `shift` frames to a quiet place.
    """

    shortest: int
    longest: int
    gap: int = 0
    shift: int = 0
    borders: tuple[float, ...] = ()


def loudness_levels(audio: NDArray[np.int16], frames: int) -> Levels:
    """Loudness of each frame of sound int16 [640 frames]: 1 is loud for this recording, 0 is `RANGE_DECIBELS` below, as
    pauses are; soft syllables are between. A recording without sound is 0 everywhere."""
    if frames == 0:
        return np.zeros(0)
    sound = audio[: frames * SAMPLES_PER_FRAME].reshape(frames, SAMPLES_PER_FRAME)
    energies = [
        (sound[start : start + BLOCK_FRAMES].astype(np.float32) ** 2).mean(1, dtype=np.float64)
        for start in range(0, frames, BLOCK_FRAMES)
    ]
    levels = gaussian_filter1d(np.sqrt(np.concatenate(energies)), SMOOTHING_FRAMES, mode="nearest")
    loud = float(np.quantile(levels, LOUD_QUANTILE))
    if loud <= 0:
        return np.zeros(frames)
    decibels = 20 * np.log10(np.maximum(levels / loud, 1e-6))
    return np.clip(1 + decibels / RANGE_DECIBELS, 0.0, 1.0)


def cut_stretch(levels: Levels, shortest: int, longest: int) -> list[slice]:
    """Cut a stretch of T frames into pieces of `shortest` to `longest` frames, at the lowest price of all cuts.

    A cut costs the mean level beside it and `CUT_PRICE`. Dynamic programming over the last cut, O(T (longest -
    shortest)). A stretch of at most `longest` frames stays whole, even one below `shortest`. Needs 2 shortest <=
    longest, so that every length can be cut.
    """
    if not 1 <= shortest <= longest / 2:
        raise ValueError(f"pieces of {shortest} to {longest} frames: the longest must be at least twice the shortest")
    length = len(levels)
    if length <= longest:
        return [slice(0, length)] if length else []
    beside = (levels[:-1] + levels[1:]) / 2
    price = np.concatenate([[0.0], beside + CUT_PRICE, [0.0]])  # of a piece that ends before each frame
    best = np.full(length + 1, np.inf)
    best[0] = 0.0
    earlier = np.zeros(length + 1, dtype=np.int64)
    for stop in range(shortest, length + 1):
        first = max(0, stop - longest)
        starts = best[first : stop - shortest + 1]
        chosen = int(starts.argmin())
        best[stop] = starts[chosen] + price[stop]
        earlier[stop] = first + chosen
    edges = [length]
    while edges[-1] > 0:
        edges.append(int(earlier[edges[-1]]))
    return [slice(start, stop) for start, stop in pairwise(reversed(edges))]


def part_stretches(stretches: Sequence[slice], levels: Levels, plan: CutPlan) -> list[slice]:
    """What is left of a recording's stretches once a gap of `plan.gap` frames is taken out at each border of the plan.

    A gap lies where the least is lost, within `plan.shift` of its border: frames count by their loudness, frames
    between stretches nothing, and a remainder below `plan.shortest` counts as lost. `levels` are those of the whole
    recording.
    """
    lengths = np.array([each.stop - each.start for each in stretches], dtype=np.int64)
    ends = np.cumsum(lengths)
    parted = list(stretches)
    for border in plan.borders if len(lengths) and ends[-1] else ():
        usable = min(round(border * int(ends[-1])), int(ends[-1]) - 1)
        which = int(np.searchsorted(ends, usable, side="right"))
        middle = stretches[which].stop - (int(ends[which]) - usable)
        parted = _without_gap(parted, levels, middle, plan)
    return parted


def cut_recording(stretches: Sequence[slice], levels: Levels, plan: CutPlan) -> list[slice]:
    """The pieces of a recording's stretches (shots with a face), in order, none overlapping another."""
    return [
        slice(stretch.start + piece.start, stretch.start + piece.stop)
        for stretch in part_stretches(stretches, levels, plan)
        for piece in cut_stretch(levels[stretch], plan.shortest, plan.longest)
    ]


def _without_gap(stretches: list[slice], levels: Levels, middle: int, plan: CutPlan) -> list[slice]:
    if plan.gap == 0:  # nothing is left out, but no piece crosses the border
        return [part for each in stretches for part in _around(each, middle, middle)]
    worth = np.zeros(len(levels))
    for each in stretches:
        worth[each] = SILENT_PRICE + levels[each]
    total = np.concatenate([[0.0], np.cumsum(worth)])
    wanted = middle - plan.gap // 2

    def loss(start: int) -> tuple[float, int, int]:
        stop = start + plan.gap
        lost = float(total[stop] - total[start])
        for each in stretches:
            if each.start < start < each.stop and start - each.start < plan.shortest:
                lost += start - each.start
            if each.start < stop < each.stop and each.stop - stop < plan.shortest:
                lost += each.stop - stop
        return lost, abs(start - wanted), start

    first = max(0, min(wanted - plan.shift, len(levels) - plan.gap))
    last = max(first, min(wanted + plan.shift, len(levels) - plan.gap))
    start = min(loss(place) for place in range(first, last + 1))[2] if len(levels) >= plan.gap else 0
    return [part for each in stretches for part in _around(each, start, start + plan.gap)]


def _around(stretch: slice, start: int, stop: int) -> list[slice]:
    """What is left of a stretch without the frames from `start` to `stop`."""
    before = slice(stretch.start, min(stretch.stop, start))
    after = slice(max(stretch.start, stop), stretch.stop)
    return [part for part in (before, after) if part.stop > part.start]
