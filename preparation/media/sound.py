"""The sound of a file: 16-bit mono at the rate asked for, in step with the pictures where there are any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from preparation.media.container import DEFAULT_LIMITS, opened, sought
from preparation.media.decoding import first_picture_seconds
from preparation.media.limits import check_sound
from preparation.media.rates import AUDIO_RATE_HZ, SAMPLES_PER_FRAME
from preparation.settings import MediaSettings


def decode_audio(path: Path, rate_hz: int = AUDIO_RATE_HZ, limits: MediaSettings = DEFAULT_LIMITS) -> NDArray[np.int16]:
    """The sound from the first video frame on: int16 [S], mono, at `rate_hz`; empty where there is none.

    A track that starts later than the pictures is led in by silence; one that starts earlier is cut.
    """
    with opened(path, limits) as container:
        if not container.streams.audio:
            return np.zeros(0, dtype=np.int16)
        start, sound = _mono(container, path, rate_hz, limits)
    late = start - first_picture_seconds(path, limits)
    check_sound(path, late, limits)
    offset = round(late * rate_hz)
    if offset > 0:
        return np.concatenate([np.zeros(offset, dtype=np.int16), sound])
    return sound[-offset:]


def decode_sound(path: Path, rate_hz: int = AUDIO_RATE_HZ, limits: MediaSettings = DEFAULT_LIMITS) -> NDArray[np.int16]:
    """The sound of a file that need not have pictures, from its own start: int16 [S], mono; empty where it has none."""
    with opened(path, limits) as container:
        if not container.streams.audio:
            return np.zeros(0, dtype=np.int16)
        return _mono(container, path, rate_hz, limits)[1]


def decode_audio_span(
    path: Path,
    start_seconds: float,
    end_seconds: float,
    rate_hz: int = AUDIO_RATE_HZ,
    limits: MediaSettings = DEFAULT_LIMITS,
) -> NDArray[np.int16]:
    """The sound of a part of a long video: int16 [(end - start) * rate], mono; empty where there is none at all.

    Where the track is silent by absence (it starts later, ends earlier), zeros keep sound and pictures together.
    """
    check_sound(path, end_seconds - start_seconds, limits)
    start = first_picture_seconds(path, limits) + start_seconds
    samples = round((end_seconds - start_seconds) * rate_hz)
    with opened(path, limits) as container:
        if not container.streams.audio:
            return np.zeros(0, dtype=np.int16)
        stream = container.streams.audio[0]
        # A little earlier, because a lossy codec needs the packet before to restore the first one rightly.
        frames = sought(container, stream, max(0.0, start - 0.5)) if start_seconds > 0 else container.decode(stream)
        resampler = av.AudioResampler(format="s16", layout="mono", rate=rate_hz)
        first: float | None = None
        seconds = 0.0
        parts: list[NDArray[np.int16]] = []
        for frame in frames:
            first = float(frame.time or 0.0) if first is None else first
            seconds += frame.samples / frame.sample_rate
            check_sound(path, seconds, limits)
            parts.extend(part.to_ndarray()[0] for part in resampler.resample(frame))
            if frame.time is not None and float(frame.time) > start + samples / rate_hz:
                break
        parts.extend(part.to_ndarray()[0] for part in resampler.resample(None))
    sound = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int16)
    offset = round((start - (start if first is None else first)) * rate_hz)
    lead = np.zeros(min(max(0, -offset), samples), dtype=np.int16)
    sound = sound[offset:] if offset >= 0 else np.concatenate([lead, sound])
    return np.pad(sound[:samples], (0, max(0, samples - len(sound))))


def fit_audio(audio: NDArray[np.int16], frames: int) -> NDArray[np.int16]:
    """Cut or pad sound (with silence) to exactly `frames` pictures: int16 [frames * 640]."""
    samples = frames * SAMPLES_PER_FRAME
    return np.pad(audio[:samples], (0, max(0, samples - len(audio))))


def _mono(container: Any, path: Path, rate_hz: int, limits: MediaSettings) -> tuple[float, NDArray[np.int16]]:
    """When the sound track starts, seconds, and the whole of it, int16 [S]."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate_hz)
    start: float | None = None
    seconds = 0.0
    parts: list[NDArray[np.int16]] = []
    for frame in container.decode(container.streams.audio[0]):
        if start is None:
            start = float(frame.time or 0.0)
        # Before resampling: at a rate of 1 Hz a kilobyte becomes minutes.
        seconds += frame.samples / frame.sample_rate
        check_sound(path, seconds, limits)
        parts.extend(part.to_ndarray()[0] for part in resampler.resample(frame))
    parts.extend(part.to_ndarray()[0] for part in resampler.resample(None))
    return start or 0.0, np.concatenate(parts) if parts else np.zeros(0, dtype=np.int16)
