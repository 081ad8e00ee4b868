"""Sounds with bursts at known times, and the files that hold them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from preparation.media.rates import AUDIO_RATE_HZ

Samples = NDArray[np.int16]


def hum(seconds: float, rate: int, hertz: float = 220.0) -> Samples:
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.int16)


def clicks(seconds: float, rate: int, every: float = 0.5) -> Samples:
    """A short burst of 1 kHz at every `every` seconds, 0.1 s after it."""
    times = np.arange(round(seconds * rate)) / rate
    return (12_000 * np.sin(2 * np.pi * 1000 * times) * (np.abs(times % every - 0.1) < 0.005)).astype(np.int16)


def onsets(sound: Samples) -> list[float]:
    """When the bursts are, seconds."""
    loud = np.flatnonzero(np.abs(sound.astype(int)) > 3000) / AUDIO_RATE_HZ
    return [float(group.mean()) for group in np.split(loud, np.flatnonzero(np.diff(loud) > 0.1) + 1) if len(group)]


def write(
    path: Path,
    blocks: Sequence[tuple[float, Samples]],
    codec: str,
    rate: int = 48_000,
    layout: str = "mono",
    pictures: float = 0.0,
    container: str | None = None,
) -> Path:
    """Blocks of samples [S] or [channels, S], each put at its seconds; grey pictures for so many seconds beside them.

    Every packet is moved as its block is, so that holes and overlaps lie between packets of one continuous stream.
    """
    with av.open(str(path), "w", format=container) as out:
        video = out.add_stream("mpeg4", rate=25) if pictures else None
        sound = out.add_stream(codec, rate=rate, layout=layout)
        packets = []
        if video is not None:
            video.width = video.height = 32
            video.pix_fmt = "yuv420p"
            for number in range(round(pictures * 25)):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8), format="rgb24")
                frame.pts = number
                packets += video.encode(frame)
            packets += video.encode(None)
        whole = np.concatenate([np.atleast_2d(block) for _, block in blocks], axis=1)
        moves, done = [], 0
        for seconds, block in blocks:
            moves.append((done / rate, seconds - done / rate))
            done += np.atleast_2d(block).shape[1]
        for start in range(0, whole.shape[1], 1024):
            part = np.ascontiguousarray(whole[:, start : start + 1024].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            packets += sound.encode(frame)
        packets += sound.encode(None)
        for packet in packets:
            if packet.stream is sound:
                middle = float((packet.pts + (packet.duration or 0) / 2) * packet.time_base)
                move = [by for since, by in moves if since <= max(0.0, middle)][-1]
                packet.pts = packet.dts = packet.pts + round(move / packet.time_base)
        packets.sort(key=lambda packet: float(packet.dts * packet.time_base))
        for packet in packets:
            out.mux(packet)
    return path


def wav(
    samples: NDArray[np.generic], rate: int = 16_000, kind: int = 1, channels: int = 1, bits: int | None = None
) -> bytes:
    """A WAV of these samples as they lie in memory; kind 1 is integers, 3 floating point, 7 µ-law."""
    bits = bits or 8 * samples.dtype.itemsize
    frame = channels * bits // 8
    data = samples.tobytes()
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * frame % 2**32, frame % 2**16, bits)
    chunks = b"fmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def pitch(sound: Samples) -> int:
    return int(np.abs(np.fft.rfft(sound[2000:14_000])).argmax() * AUDIO_RATE_HZ / 12_000)
