"""An invisible watermark in the brightness of every frame: six bytes that survive H.264, rescaling and cutting in time.

Dither modulation (Chen and Wornell 2001): the picture's brightness is scaled to 128 x 128 and cut into blocks of 16.
Each block's lowest DCT coefficients are moved to the nearest point of a lattice of step Delta. A key shifts the lattice
of each coefficient, and for a one it lies half a step further than for a zero. The picture itself therefore does not
disturb the reading.

Readings are soft: the cosine of each coefficient's position in its lattice cell, averaged over frames. Nearly half of
the coefficients carry a pattern that the key decides. The mark is detected by z = sum k s / |s|, where k are the
pattern's signs and s the readings at its coefficients. For any video made without knowledge of the key or of a marked
clip, P(z >= x) <= exp(-x^2 / 2) (Hoeffding 1963).

The mark is a hint, not a proof. The key does not protect it: the lattices can be read from a single marked clip, so
the mark can be copied to another clip, or removed with less change than it made (tests do both).
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
"""Delta, grey levels; benchmarks/README.md has its cost in PSNR and its robustness."""
DETECTED = 5.0
"""The least z at which a mark counts as detected: at most one false detection in 270,000 unmarked videos."""
MOST_FRAMES = 250
"""The most frames that are read from the start of a video."""

GRID, BLOCK = 128, 16
BLOCKS = (GRID // BLOCK) ** 2
LOWEST = 3
"""Of each block's DCT the lowest 3 x 3 coefficients but the mean are used: H.264 flattens higher ones first."""
COEFFICIENTS = LOWEST * LOWEST - 1
PLACES = BLOCKS * COEFFICIENTS
REPEATS = 2
"""Number of coefficients that carry each bit of the code."""
STAY = 0.7
"""A coefficient keeps its lattice point of the frame before while it need not move by more than this many steps;
otherwise the mark would flicker where the picture lies between two lattice points."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """The result of reading a video. `payload` is None if no mark is detected or its checksum is wrong."""

    score: float
    payload: bytes | None
    frames: int

    @property
    def detected(self) -> bool:
        return self.score >= DETECTED

    @property
    def false_positive_rate(self) -> float:
        """An upper bound on the share of unmarked videos that score as high."""
        return math.exp(-(max(self.score, 0.0) ** 2) / 2)


def embed(frames: Iterable[Frame], payload: bytes, key: str = KEY, step: float = STEP) -> Iterator[Frame]:
    """The marked frames, uint8 [H, W, 3], streamed."""
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
    """Read the mark of at least one frame, uint8 [H, W, 3]."""
    layout = layout_of(key)
    total, count = np.zeros(PLACES), 0
    for frame, _ in zip(frames, range(most_frames), strict=False):
        total += np.cos(2 * np.pi * (coefficients(frame) / step - layout.offset))
        count += 1
    assert count, "a video has at least one frame"
    soft = total / count
    pattern, code = soft[layout.pattern_places], soft[layout.code_places].sum(0)
    score = float(layout.pattern_signs @ pattern / max(float(np.linalg.norm(pattern)), 1e-12))
    payload = decode(code, PAYLOAD_BYTES) if score >= DETECTED else None
    return Found(score, payload, count)


@dataclass(frozen=True)
class Layout:
    """What a key decides for the P coefficients.

    `offset` [P] shifts each coefficient's lattice, in steps. `pattern_places` are the indices of the coefficients that
    carry the pattern, `pattern_signs` its signs. `code_places` [2, bits] are the indices that carry the code's bits.
    """

    offset: Floats
    pattern_places: NDArray[np.int64]
    code_places: NDArray[np.int64]
    pattern_signs: Floats

    def dither(self, payload: bytes) -> Floats:
        """The shift of each coefficient's lattice [P], in steps."""
        assert len(payload) == PAYLOAD_BYTES, f"a payload has {PAYLOAD_BYTES} bytes, not {len(payload)}"
        shift = np.zeros(PLACES, np.float32)
        shift[self.code_places] = encode(payload) / 2
        shift[self.pattern_places] = (1 - self.pattern_signs) / 4
        return self.offset + shift


@cache
def layout_of(key: str) -> Layout:
    """The layout that a key decides, the same on every machine."""
    rng = seeding.generator(0, "watermark", key)
    offset = rng.random(PLACES, np.float32)
    code_places, pattern_places = np.split(rng.permutation(PLACES), [REPEATS * coded_length(PAYLOAD_BYTES)])
    signs = rng.choice(np.array([-1, 1], np.float32), len(pattern_places))
    return Layout(offset, pattern_places, code_places.reshape(REPEATS, -1), signs)


def coefficients(frame: Frame) -> Floats:
    """The DCT coefficients [P] of a frame's brightness that carry the mark, grey levels."""
    grey = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    kernel = cv2.INTER_AREA if min(grey.shape) >= GRID else cv2.INTER_CUBIC
    small = cv2.resize(grey, (GRID, GRID), interpolation=kernel)
    blocks = small.reshape(GRID // BLOCK, BLOCK, GRID // BLOCK, BLOCK).transpose(0, 2, 1, 3)
    low = np.einsum("ui,abij,vj->abuv", _DCT, blocks, _DCT, optimize=True)
    return low.reshape(BLOCKS, -1)[:, 1:].reshape(PLACES)


def brightness(moves: Floats, size: tuple[int, int]) -> Floats:
    """The change of a frame's brightness [H, W] that moves its coefficients by `moves` [P]."""
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
