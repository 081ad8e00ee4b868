"""An invisible watermark in the brightness of every frame: six bytes that survive H.264, rescaling and cutting in time.

Dither modulation (Chen and Wornell 2001): the picture's brightness is seen at 128 x 128, in blocks of 16; each block's
lowest DCT coefficients are moved to the nearest point of a lattice of step Delta, which a key shifts for each of them,
and which lies half a step further for a one than for a zero. So the picture itself does not disturb the reading.

What is read is soft: the cosine of each coefficient's place in its cell, averaged over frames. Nearly half of them
carry a pattern that the key decides. Whether it is there is told by z = sum k s / |s|, k the pattern's signs and s
what is read at its places: for any video that was made without a look at the key or at a marked clip,
P(z >= x) <= exp(-x^2 / 2) (Hoeffding 1963).

The mark is a hint and no proof. The key does not guard it: where the lattices lie is read off one marked clip, so that
the mark can be copied to another clip, or removed at less than it cost (tests do both).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from common import seeding
from preparation.media.track.frames import Frame
from training.generation.marks.codes import coded_length, decode, encode
from training.settings.marks import KEY

PAYLOAD_BYTES = 6
STEP = 40.0
"""Delta, grey levels: what the mark costs in PSNR and what it survives are measured in benchmarks/README.md."""
DETECTED = 5.0
"""The z from which on a mark is said to be there: a false one in 270,000 unmarked videos, at most."""
MOST_FRAMES = 250
"""How many frames are read of a long video, from its start."""

GRID, BLOCK = 128, 16
BLOCKS = (GRID // BLOCK) ** 2
LOWEST = 3
"""Of each block's DCT the lowest 3 x 3 coefficients but the mean are used: H.264 flattens higher ones first."""
COEFFICIENTS = LOWEST * LOWEST - 1
PLACES = BLOCKS * COEFFICIENTS
REPEATS = 2
"""How often each bit of the code is written."""
STAY = 0.7
"""A coefficient stays in its cell until it would have to be moved by so many steps: without that the mark would flicker
where the picture lies between two cells."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """What the reading of a video came to. `payload` is None where no mark is detected or its checksum is wrong."""

    score: float
    payload: bytes | None
    frames: int

    @property
    def detected(self) -> bool:
        return self.score >= DETECTED

    @property
    def false_positive_rate(self) -> float:
        """At most this share of unmarked videos scores as high."""
        return math.exp(-(max(self.score, 0.0) ** 2) / 2)


def embed(frames: Iterable[Frame], payload: bytes, key: str = KEY, step: float = STEP) -> Iterator[Frame]:
    """The frames, uint8 [H, W, 3], with the mark in them; streamed."""
    layout = layout_of(key)
    dither = layout.dither(payload) * step
    cell: Floats | None = None
    for frame in frames:
        seen = coefficients(frame)
        nearest = np.round((seen - dither) / step)
        before = nearest if cell is None else cell
        cell = np.where(np.abs(seen - dither - step * before) <= STAY * step, before, nearest)
        pattern = brightness(step * cell + dither - seen, frame.shape[:2])
        yield np.clip(np.rint(frame + pattern[..., None]), 0, 255).astype(np.uint8)


def detect(frames: Iterable[Frame], key: str = KEY, step: float = STEP, most_frames: int = MOST_FRAMES) -> Found:
    """Read the mark of frames uint8 [H, W, 3]; at least one."""
    layout = layout_of(key)
    total, count = np.zeros(PLACES), 0
    for frame, _ in zip(frames, range(most_frames), strict=False):
        total += np.cos(2 * np.pi * (coefficients(frame) / step - layout.offset))
        count += 1
    assert count, "a video has at least one frame"
    soft = total / count
    known, told = soft[layout.known], soft[layout.told].sum(0)
    score = float(layout.pattern_signs @ known / max(float(np.linalg.norm(known)), 1e-12))
    payload = decode(told, PAYLOAD_BYTES) if score >= DETECTED else None
    return Found(score, payload, count)


@dataclass(frozen=True)
class Layout:
    """What a key decides: `offset` [P], in steps, is each coefficient's own; `known` are the pattern's places, whose
    signs are `pattern_signs`, `told` [2, bits] those of the code's bits."""

    offset: Floats
    known: NDArray[np.int64]
    told: NDArray[np.int64]
    pattern_signs: Floats

    def dither(self, payload: bytes) -> Floats:
        """Where each coefficient's lattice lies [P], in steps."""
        assert len(payload) == PAYLOAD_BYTES, f"a payload has {PAYLOAD_BYTES} bytes, not {len(payload)}"
        shift = np.zeros(PLACES, np.float32)
        shift[self.told] = encode(payload) / 2
        shift[self.known] = (1 - self.pattern_signs) / 4
        return self.offset + shift


@cache
def layout_of(key: str) -> Layout:
    """The layout that a key decides, the same on every machine."""
    rng = seeding.generator(0, "watermark", key)
    offset = rng.random(PLACES, np.float32)
    told, known = np.split(rng.permutation(PLACES), [REPEATS * coded_length(PAYLOAD_BYTES)])
    signs = rng.choice(np.array([-1, 1], np.float32), len(known))
    return Layout(offset, known, told.reshape(REPEATS, -1), signs)


def coefficients(frame: Frame) -> Floats:
    """The coefficients [P] of a frame's brightness that may be moved, grey levels."""
    grey = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    kernel = cv2.INTER_AREA if min(grey.shape) >= GRID else cv2.INTER_CUBIC
    small = cv2.resize(grey, (GRID, GRID), interpolation=kernel)
    blocks = small.reshape(GRID // BLOCK, BLOCK, GRID // BLOCK, BLOCK).transpose(0, 2, 1, 3)
    low = np.einsum("ui,abij,vj->abuv", _DCT, blocks, _DCT, optimize=True)
    return low.reshape(BLOCKS, -1)[:, 1:].reshape(PLACES)


def brightness(moves: Floats, size: tuple[int, int]) -> Floats:
    """What to add to a frame's brightness, [H, W], so that its coefficients move by `moves` [P]."""
    low = np.zeros((BLOCKS, COEFFICIENTS + 1), np.float32)
    low[:, 1:] = moves.reshape(BLOCKS, COEFFICIENTS)
    side = GRID // BLOCK
    blocks = np.einsum("ui,abuv,vj->abij", _DCT, low.reshape(side, side, LOWEST, LOWEST), _DCT, optimize=True)
    grid = blocks.transpose(0, 2, 1, 3).reshape(GRID, GRID)
    kernel = cv2.INTER_CUBIC if min(size) >= GRID else cv2.INTER_AREA
    return cv2.resize(grid, size[::-1], interpolation=kernel)


def _dct() -> Floats:
    """The lowest rows of the orthonormal DCT-II of 16 points, [3, 16]."""
    rows, places = np.arange(LOWEST)[:, None], np.arange(BLOCK)[None] + 0.5
    waves = np.cos(np.pi * rows * places / BLOCK) * (2 / BLOCK) ** 0.5
    waves[0] /= 2**0.5
    return waves.astype(np.float32)


_DCT = _dct()
