"""Pictures of high dynamic range (HLG, PQ; ITU-R BT.2100) or of a wide gamut as Rec. 709.

Diffuse white, 203 cd/m² (ITU-R BT.2408), becomes the white of Rec. 709, so that skin looks as it does in other clips;
what is brighter, up to PEAK_NITS, is compressed by the curve of ITU-R BT.2390 (EETF, section 5.4.1), each channel by
itself.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc
from numpy.typing import NDArray

PEAK_NITS = 1000.0
"""Luminance of the brightest pixel, cd/m²: of the display that HLG is defined for, and for which most PQ is made."""
WHITE_NITS = 203.0

_BITS = 12
_PQ, _HLG = int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)
_TO_709 = {
    # ITU-R BT.2087, annex 2; Display P3 by SMPTE EG 432-1.
    int(ColorPrimaries.BT2020): ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    int(ColorPrimaries.SMPTE431): ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
    int(ColorPrimaries.SMPTE432): ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}
_LUMINANCE = np.array([[0.2627, 0.6780, 0.0593]], np.float32)
_UNSPECIFIED_MATRIX = 2
"""FFmpeg's AVCOL_SPC_UNSPECIFIED, which PyAV has no name for."""


def is_beyond_709(frame: Any) -> bool:
    """Whether a frame has a high dynamic range or a wide gamut, so that it would look pale as Rec. 709."""
    return frame.color_trc in (_PQ, _HLG) or frame.color_primaries in _TO_709


def complete_tags(frame: Any) -> None:
    """Set the colour tags that a frame of high dynamic range lacks: BT.2100 has one gamut."""
    if frame.color_trc in (_PQ, _HLG):
        if frame.color_primaries == ColorPrimaries.UNSPECIFIED:
            frame.color_primaries = int(ColorPrimaries.BT2020)
        if frame.colorspace == _UNSPECIFIED_MATRIX:
            frame.colorspace = int(Colorspace.BT2020)


def to_709(signal: NDArray[np.uint16], transfer: int, primaries: int) -> NDArray[np.uint8]:
    """Rec. 709, uint8 [H, W, 3], from an RGB signal, uint16 [H, W, 3]; `transfer` and `primaries` are FFmpeg's numbers
    of the signal's transfer function and primaries."""
    light = _nits_of(transfer)[signal >> (16 - _BITS)]
    if transfer == _HLG:  # BT.2100's OOTF: the display's gamma follows the pixel's luminance
        light *= PEAK_NITS * np.power(np.maximum(cv2.transform(light, _LUMINANCE), 1e-6), 0.2)[..., None]
    if primaries in _TO_709:
        light = cv2.transform(light, np.array(_TO_709[primaries], np.float32))
    codes = np.clip(light * (65535 / PEAK_NITS) + 0.5, 0, 65535).astype(np.uint16)
    return _shown(transfer in (_PQ, _HLG))[codes]


@cache
def _nits_of(transfer: int) -> NDArray[np.float32]:
    """The luminance of each level of a signal, cd/m²; for HLG the light of the scene, 0 to 1 (BT.2100, tables 4, 5)."""
    signal = np.arange(2**_BITS) / (2**_BITS - 1)
    if transfer == _PQ:
        return _from_pq(signal).astype(np.float32)
    if transfer == _HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)
    return (WHITE_NITS * signal**2.4).astype(np.float32)


@cache
def _shown(compressed: bool) -> NDArray[np.uint8]:
    """The Rec. 709 level, on a display by BT.1886, of each of 65,536 equal steps of luminance up to PEAK_NITS."""
    nits = np.linspace(0, PEAK_NITS, 65536)
    if compressed:
        nits = _from_pq(_compressed(_to_pq(nits)))
    return np.round(255 * np.clip(nits / WHITE_NITS, 0, 1) ** (1 / 2.4)).astype(np.uint8)


def _compressed(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2390's EETF: unchanged below the knee, then a Hermite spline, so that the peak becomes white."""
    peak = float(_to_pq(np.array(PEAK_NITS)))
    relative, white = signal / peak, float(_to_pq(np.array(WHITE_NITS))) / peak
    knee = 1.5 * white - 0.5
    t = np.clip((relative - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * white
    return peak * np.where(relative < knee, relative, spline)


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128


def _from_pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    power = signal ** (1 / _M2)
    return 10_000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


def _to_pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    power = (nits / 10_000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
