"""HLG and PQ against the curves of ITU-R BT.2100, and the plain ranges and matrices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from preparation.media.track.frames import Painter, Picture
from preparation.media.video import open_video
from tests.preparation.media.made_clips import marked, write_clip

TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""Linear light of Rec. 709 as that of BT.2020 (ITU-R BT.2087)."""
PQ, HLG, BT_2020, BT_709, LIMITED, FULL = 16, 18, 9, 1, 1, 2


def pq_signal(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2100, table 4: the inverse of the PQ EOTF."""
    y = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)


def hlg_nits(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2100, table 5, for a grey on a display of 1,000 cd/m² (system gamma 1.2)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return 1000 * scene**1.2


def in_709(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """What shows as bright in Rec. 709 on a display by BT.1886 whose white is diffuse white, 203 cd/m² (BT.2408)."""
    return 255 * np.clip(nits / 203, 0, 1) ** (1 / 2.4)


KNEE_NITS = 91.0
"""Of BT.2390's curve from 1,000 to 203 cd/m²: what is darker stays as bright as it was."""


def greys(signal: NDArray[np.float64], transfer: int) -> Any:
    """A frame of stripes 16 pixels wide, 10 bits, limited range."""
    frame = av.VideoFrame(16 * len(signal), 16, "yuv420p10le")
    frame.colorspace, frame.color_primaries, frame.color_range, frame.color_trc = BT_2020, BT_2020, LIMITED, transfer
    coded = (64 + 876 * signal, 0 * signal + 512, 0 * signal + 512)
    for plane, width, levels in zip(frame.planes, (16, 8, 8), coded, strict=True):
        rows = np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2)
        rows[:, : width * len(signal)] = np.repeat(np.round(levels), width)
    return frame


@pytest.mark.parametrize("tagged", [True, False])
def test_pq_keeps_its_tones(tagged: bool) -> None:
    nits = np.array([2.0, 10, 26, 50, 100, 150, 203, 400, 1000])
    frame = greys(pq_signal(nits), PQ)
    if not tagged:
        frame.colorspace, frame.color_primaries = 2, 2
    shown = Painter().upright(frame)[8, 8::16]
    assert np.ptp(shown, axis=1).max() <= 2
    level, dark = shown[:, 1].astype(float), nits < KNEE_NITS
    assert np.abs(level - in_709(nits))[dark].max() < 4
    # Above the knee: brighter stays brighter, diffuse white is nearly white, the peak is white.
    assert (np.diff(level[~dark]) > 4).all() and level[-1] >= 253
    assert (level[~dark] <= in_709(nits)[~dark] + 2).all() and 225 < level[list(nits).index(203)] < 240
    pale = VideoReformatter().reformat(greys(pq_signal(nits), PQ), format="rgb24").to_ndarray()[8, 8::16, 1]
    assert (in_709(nits)[3:6] - pale[3:6]).min() > 25  # what is not mapped looks pale


def test_hlg_keeps_its_tones() -> None:
    signal = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0])
    shown = Painter().upright(greys(signal, HLG))[8, 8::16, 1].astype(float)
    nits = hlg_nits(signal)
    assert np.abs(shown - in_709(nits))[nits < KNEE_NITS].max() < 4 and (nits < KNEE_NITS).sum() >= 5
    assert 225 < shown[6] < 240 and shown[7] >= 253  # BT.2408: diffuse white is at 75 %


def test_a_colour_of_high_range_keeps_its_hue() -> None:
    """A skin tone of Rec. 709, 60 cd/m² at most, in BT.2020's primaries and PQ or HLG."""
    wanted = np.array([0.75, 0.55, 0.45])
    light = TO_2020 @ (203 * wanted**2.4)
    luminance = (np.array([0.2627, 0.678, 0.0593]) @ light) / 1000
    scene = light / 1000 * luminance ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    hlg = np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)
    for transfer, signal in ((PQ, pq_signal(light)), (HLG, hlg)):
        pixels = np.full((16, 16, 3), np.round(65535 * signal), np.uint16)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le")
        frame.color_primaries, frame.color_trc = BT_2020, transfer
        assert np.abs(Painter().upright(frame)[8, 8] / 255 - wanted).max() < 0.015


def test_a_wide_gamut_loses_no_colour() -> None:
    """A red of Rec. 709, written in BT.2020's primaries: its matrix from one to the other (BT.2087) is undone."""
    wanted = np.array([0.7, 0.2, 0.1])
    coded = (TO_2020 @ wanted**2.4) ** (1 / 2.4)
    frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), np.round(255 * coded), np.uint8), format="rgb24")
    frame.color_primaries, frame.color_trc = BT_2020, BT_709
    shown = Painter().upright(frame)[8, 8]
    assert np.abs(shown / 255 - wanted).max() < 0.03
    assert not Picture(frame, Painter())._plain


def tagged(transfer: int) -> Callable[[Any], None]:
    def prepare(stream: Any) -> None:
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, transfer, 9, 1

    return prepare


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a_clip_says_that_it_was_mapped(tmp_path: Path, transfer: int) -> None:
    path = write_clip(tmp_path / "phone.mkv", marked(4), "ffv1", "yuv420p10le", prepare=tagged(transfer))
    video = open_video(path)
    assert video.conversions.made() == {"tone_mapped": True}
    frames = video.all()
    assert frames.shape == (4, 64, 96, 3)
    drawn = [picture.draw((30, 20, 70, 60), None) for picture in video.pictures()]
    for frame, part in zip(frames, drawn, strict=True):
        np.testing.assert_array_equal(part[20:60, 30:70], frame[20:60, 30:70])


@pytest.mark.parametrize(("matrix", "weights"), [(1, (0.2126, 0.0722)), (6, (0.299, 0.114)), (9, (0.2627, 0.0593))])
@pytest.mark.parametrize("colour_range", [LIMITED, FULL])
def test_matrix_and_range_are_honoured(matrix: int, weights: tuple[float, float], colour_range: int) -> None:
    red, blue = weights
    rgb = np.array([180, 90, 60]) / 255
    luma = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    chroma = np.array([(rgb[2] - luma) / (2 - 2 * blue), (rgb[0] - luma) / (2 - 2 * red)])
    full = colour_range == FULL
    coded = [255 * luma, *(128 + 255 * chroma)] if full else [16 + 219 * luma, *(128 + 224 * chroma)]
    frame = av.VideoFrame(32, 32, "yuv420p")
    frame.colorspace, frame.color_range = matrix, colour_range
    for plane, value in zip(frame.planes, coded, strict=True):
        np.frombuffer(plane, np.uint8)[:] = round(value)
    assert np.abs(Painter().upright(frame)[8, 8] - 255 * rgb).max() <= 3
    part = Picture(frame, Painter())
    part.trim((0, 0, 32, 32))
    assert np.abs(part.draw((0, 0, 32, 32), None)[8, 8] - 255 * rgb).max() <= 3


def test_wide_gamut_pictures_of_odd_width_are_the_same_whenever_they_are_read(tmp_path: Path) -> None:
    """FFmpeg leaves the last column of interleaved 16-bit pixels unwritten: it held what was in memory before."""
    path = write_clip(tmp_path / "odd.mp4", marked(1, 48, 51), "mpeg4", prepare=tagged(PQ))
    found = []
    for number in range(12):
        np.full((8, 48 * 51 * 3), number, np.uint16).sum()  # what the next allocation may find
        found.append(open_video(path).all())
    assert all(np.array_equal(found[0], other) for other in found)
