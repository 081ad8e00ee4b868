"""Pictures of high dynamic range or a wide gamut as Rec. 709, by FFmpeg's scaler.

HLG and PQ (ITU-R BT.2100) are mapped in linear light such that diffuse white, 203 cd/m² (ITU-R BT.2408), becomes white:
skin has the tones that it has in Rec. 709 footage, and brighter highlights are clipped.
"""

from __future__ import annotations

from typing import Any

from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc

HIGH_RANGE = frozenset({int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)})
WIDE = frozenset({int(ColorPrimaries.BT2020), int(ColorPrimaries.SMPTE431), int(ColorPrimaries.SMPTE432)})
REC_709 = {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}
"""What the scaler is asked for."""


def is_beyond_709(frame: Any) -> bool:
    """Whether a frame taken for Rec. 709 would look pale."""
    return frame.color_trc in HIGH_RANGE or frame.color_primaries in WIDE


def complete_tags(frame: Any) -> None:
    """Say what a frame of high range leaves out: BT.2100 knows one gamut."""
    if frame.color_trc in HIGH_RANGE:
        if frame.color_primaries == ColorPrimaries.UNSPECIFIED:
            frame.color_primaries = int(ColorPrimaries.BT2020)
        if frame.colorspace == _UNSPECIFIED:
            frame.colorspace = int(Colorspace.BT2020)


_UNSPECIFIED = 2
"""FFmpeg's AVCOL_SPC_UNSPECIFIED, which PyAV has no name for."""
