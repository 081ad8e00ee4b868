"""From words to timed phonemes, and from phonemes to the motion of lips, jaw and tongue.

Coarticulation is a zero-phase Gaussian average of the phonemes' targets: movements begin before their sound and
end after it, and no lag arises between sound and lips, whatever the speaker's smoothness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from preparation.corpora.studio.voice.lexicon import LEXICON, next_word
from preparation.corpora.studio.voice.phonemes import DIPHTHONGS, PHONEMES, SILENCE, Phoneme

Array = NDArray[np.floating]

TRACK_HZ = 200
CLOSURE_SECONDS = 0.016  # bilabials close quickly, whatever the speaker's jaw does


@dataclass(frozen=True)
class Segment:
    """One phoneme in time; `stress` scales loudness and opening alike."""

    phoneme: Phoneme
    start: float
    end: float
    stress: float


@dataclass(frozen=True)
class Utterance:
    """A sentence in time: words as (text, start, end) and the phoneme segments that fill the clip, in seconds."""

    words: tuple[tuple[str, float, float], ...]
    segments: tuple[Segment, ...]
    seconds: float


@dataclass(frozen=True)
class Mouth:
    """Tracks of the mouth's motion at `TRACK_HZ`, float32 [N] each: opening >= 0 (1 is the open vowel at gain 1),
    spread in [-1, 1], closure and tongue in [0, 1]."""

    opening: Array
    spread: Array
    closure: Array
    tongue: Array

    def at(self, times: Array) -> Mouth:
        """The tracks sampled at the given seconds, linearly."""
        grid = np.arange(len(self.opening)) / TRACK_HZ
        tracks = (self.opening, self.spread, self.closure, self.tongue)
        return Mouth(*(np.interp(times, grid, track).astype(np.float32) for track in tracks))


def compose_utterance(rng: np.random.Generator, seconds: float, tempo: float) -> Utterance:
    """Random words between two short silences; `tempo` 1 is about eleven phonemes a second."""
    start = float(rng.uniform(0.10, 0.22))
    stop = seconds - float(rng.uniform(0.12, 0.24))
    words: list[tuple[str, float, float]] = []
    segments = [Segment(SILENCE, 0.0, start, 1.0)]
    time = start
    while True:
        if words and rng.random() < 0.12:
            pause = float(rng.uniform(0.06, 0.14))
            segments.append(Segment(SILENCE, time, time + pause, 1.0))
            time += pause
        word = next_word(rng, tuple(said for said, _, _ in words))
        spoken = _pronounce(rng, word, time, tempo)
        if spoken[-1].end > stop:
            break
        segments += spoken
        words.append((word, time, spoken[-1].end))
        time = spoken[-1].end
    segments.append(Segment(SILENCE, time, seconds, 1.0))
    return Utterance(tuple(words), tuple(segments), seconds)


def _pronounce(rng: np.random.Generator, word: str, start: float, tempo: float) -> list[Segment]:
    stress = float(rng.uniform(0.78, 1.15))
    segments: list[Segment] = []
    for name in LEXICON[word].split():
        parts = (
            ((name, 1.0),)
            if name in PHONEMES
            else (
                (DIPHTHONGS[name][0], 1.25 * DIPHTHONGS[name][2]),
                (DIPHTHONGS[name][1], 1.25 * (1.0 - DIPHTHONGS[name][2])),
            )
        )
        for part, share in parts:
            phoneme = PHONEMES[part]
            length = phoneme.milliseconds / 1000.0 * share / tempo * float(rng.uniform(0.85, 1.2))
            segments.append(Segment(phoneme, start, start + length, stress))
            start += length
    return segments


def articulate(utterance: Utterance, smoothness_seconds: float) -> Mouth:
    """The mouth's tracks for an utterance; `smoothness_seconds` is the Gaussian's sigma of this speaker."""
    count = round(utterance.seconds * TRACK_HZ) + 1
    times = np.arange(count) / TRACK_HZ
    starts = np.array([s.start for s in utterance.segments])
    index = np.clip(np.searchsorted(starts, times, side="right") - 1, 0, None)

    def steps(values: list[float]) -> Array:
        return np.asarray(values, np.float32)[index]

    def smooth(track: Array, seconds: float) -> Array:
        return gaussian_filter1d(track, seconds * TRACK_HZ, mode="nearest")

    opening = smooth(steps([s.phoneme.opening * s.stress for s in utterance.segments]), smoothness_seconds)
    closure = smooth(steps([s.phoneme.closure for s in utterance.segments]), CLOSURE_SECONDS)
    spread = smooth(steps([s.phoneme.spread for s in utterance.segments]), 1.3 * smoothness_seconds)
    tongue = smooth(steps([s.phoneme.tongue for s in utterance.segments]), 0.025)
    closed = np.clip(1.25 * closure, 0.0, 1.0)
    return Mouth(opening * (1.0 - closed), spread, closed, tongue)
