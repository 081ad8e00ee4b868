"""What a container holds, read from headers and the packet index alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from preparation.errors import CorruptFileError
from preparation.media.container import DEFAULT_LIMITS, PLAY_IT, opened, video_stream
from preparation.media.limits import Meter, longest_gap
from preparation.media.rates import FPS
from preparation.settings import MediaSettings


@dataclass(frozen=True)
class Probe:
    """What a container holds, in the source's own rate and size; audio_rate_hz 0 means no sound."""

    frames: int
    fps: float
    width: int
    height: int
    seconds: float
    audio_rate_hz: int


def probe(path: Path, limits: MediaSettings = DEFAULT_LIMITS) -> Probe:
    """Read headers and packet index (not the pictures) and check that the file holds what it promises, within bounds.

    `seconds` is what the frames last by their number and rate, or by their timestamps where those say longer.
    """
    meter = Meter(path, limits)
    with opened(path, limits) as container:
        video = video_stream(container, path)
        meter.size(int(video.width), int(video.height))
        if container.format.name == "image2" or container.format.name.endswith("_pipe"):
            raise CorruptFileError(f"{path.name} is a picture, not a clip", remedy="remove it, or give the clip itself")
        declared = int(video.frames)
        packets, times = 0, []
        for number, packet in enumerate(container.demux(video)):
            meter.packet(number)
            if packet.size:
                packets += 1
                if packet.pts is not None:
                    times.append(packet.pts)
        if packets == 0:
            raise CorruptFileError(f"{path.name} holds no picture", remedy=PLAY_IT)
        if declared > 1.02 * packets + 2:
            raise CorruptFileError(
                f"{path.name} promises {declared} frames and holds {packets}: it is truncated", remedy=PLAY_IT
            )
        fps = float(video.average_rate or video.guessed_rate or FPS)
        base = video.time_base or 0
        seconds = max(packets / fps, float((max(times) - min(times)) * base) if times else 0.0)
        meter.gap(longest_gap(times, base))
        meter.total(packets, seconds)
        meter.pixels(float(video.width) * video.height * max(packets, seconds * FPS))
        audio = container.streams.audio
        return Probe(
            frames=packets,
            fps=round(fps, 6),
            width=int(video.width),
            height=int(video.height),
            seconds=round(seconds, 6),
            audio_rate_hz=int(audio[0].rate or 0) if audio else 0,
        )
