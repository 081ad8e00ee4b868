"""The decoded frames of a sound track with their times; a packet that cannot be decoded is left out and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from av.error import EOFError as EndOfFileError
from av.error import FFmpegError
from numpy.typing import NDArray

from common.errors import CorruptFileError
from preparation.media.container import PLAY_IT
from preparation.media.limits import BeyondLimitError, check_sound
from preparation.media.sound_track.channels import keep_layout, values
from preparation.settings import MediaSettings

BARE = frozenset({"aac", "ac3", "amr", "dts", "eac3", "gsm", "loas", "mlp", "mp3", "truehd"})
"""Formats that hold a codec's packets and nothing else: FFmpeg makes up timestamps from the first packet's rate."""

PACKETS_A_SECOND = 400
"""Most packets a second: Opus has the shortest, 2.5 ms; a file with more was made to be slow."""

SAMPLES_A_SECOND = 8 * 48_000
"""Most samples a second of all channels together, on average over the longest file; it bounds a file's reading time."""

SLOWEST_HZ, FASTEST_HZ = 2_000, 2_000_000
"""Range of a sound's rate. A header with another rate is broken, and resampling from it takes minutes or gigabytes."""

FULL_SCALE_SHARE = 0.2
"""Floating-point sound clips now and then. Where a larger share is beyond full scale, its unit is another one."""

SAVE_ANEW = "save it anew, as 16-bit WAV for one"


@dataclass(frozen=True)
class Timed:
    """A decoded frame of sound; when it begins, in seconds, or None where the container does not say; and its stored
    samples [channels, S], where it has more than one channel."""

    frame: Any
    seconds: float | None
    samples: NDArray[Any] | None


class SoundPackets:
    """Yields the frames of one track in the order of the file, from the container's current position.

    Raises CorruptFileError at samples that are not finite, and at the first bound of `limits` that is passed.
    `lost_seconds` counts sound that could not be decoded, `read_seconds` sound that could.
    """

    def __init__(self, container: Any, stream: Any, path: Path, limits: MediaSettings) -> None:
        self._container, self._stream, self._path, self._limits = container, stream, path, limits
        self.bare = container.format.name in BARE
        self._float_pcm = stream.codec_context.name.startswith("pcm_f")
        self._tag_end = 0
        self._samples = self._beyond = 0
        self.lost_seconds = self.read_seconds = 0.0
        self._last: float | None = None
        self._silent_seconds, self._jumped = 0.0, False
        self._last_error: str | None = None

    def sought(self, seconds: float) -> Iterator[Timed]:
        """The frames from a packet before `seconds` on, or from the beginning where the file's index is wrong."""
        self._container.seek(int(seconds / self._stream.time_base), stream=self._stream)
        self._jumped = True
        frames = iter(self)
        first = next(frames, None)
        if first is None or first.seconds is None or first.seconds > seconds:
            self._container.seek(0)
            self._jumped = False
            self.lost_seconds = self.read_seconds = 0.0
            yield from self
            return
        yield first
        yield from frames

    def __iter__(self) -> Iterator[Timed]:
        for count, packet in enumerate(self._packets()):
            self._bounded(count)
            # An empty packet would tell the decoder that the file has ended.
            if packet.size == 0 or self._is_tag(packet):
                continue
            yield from self._decoded(packet)
        yield from self._decoded(None)
        if self._last_error is not None and self.read_seconds == 0:
            raise CorruptFileError(
                f"nothing of the sound of {self._path.name} can be decoded: {self._last_error}", remedy=PLAY_IT
            )
        if self._beyond > FULL_SCALE_SHARE * self._samples:
            raise CorruptFileError(
                f"{self._path.name} holds floating-point sound far beyond full scale, which is 1",
                remedy="divide its samples by their largest value, or save it anew as 16-bit WAV",
            )

    def gap_seconds(self, note: Callable[[Any], None]) -> float:
        """The longest time from the end of a packet to the beginning of the next, in the order of the file. A packet
        without a length counts as long as the previous one; `note` is called with each packet."""
        longest = length = 0.0
        end: float | None = None
        for count, packet in enumerate(self._packets()):
            self._bounded(count)
            note(packet)
            if packet.pts is None or packet.size == 0:
                continue
            begin = float(packet.pts * packet.time_base)
            length = self._length(packet) or length
            longest = longest if end is None else max(longest, begin - end)
            end = begin + length
        return longest

    def _length(self, packet: Any) -> float:
        """The length of a packet, seconds; 0 where it is unknown. MP4 states the time until the next packet, so that
        holes look like long packets; then the codec's frame size is the length."""
        codec = self._stream.codec_context
        by_codec = codec.frame_size / codec.sample_rate if codec.frame_size and codec.sample_rate else 0.0
        stated = float(packet.duration * packet.time_base) if packet.duration else by_codec
        return min(stated, by_codec or stated)

    def _bounded(self, count: int) -> None:
        if count > PACKETS_A_SECOND * self._limits.longest_seconds:
            raise _too_much(self._path, "packets")

    def _packets(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:
                # The rest of the file cannot be read. What came before still can, if it is most of it.
                if self.read_seconds == 0:
                    raise
                duration = self._stream.duration
                if duration is not None:
                    self.lost_seconds += max(0.0, float(duration * self._stream.time_base) - self.read_seconds)
                return
            if packet is None:
                return
            yield packet

    def _is_tag(self, packet: Any) -> bool:
        """Whether a packet lies in an ID3 tag, which stands in the middle of joined MP3 files."""
        if not self.bare or packet.pos is None:
            return False
        head = bytes(packet)[:10]
        if head[:3] == b"ID3" and len(head) == 10:
            size = sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
            self._tag_end = max(self._tag_end, int(packet.pos) + 10 + size)
            return True
        return int(packet.pos) < self._tag_end

    def _decoded(self, packet: Any) -> Iterator[Timed]:
        try:
            frames = self._stream.codec_context.decode(packet)
        except EndOfFileError:
            return
        except FFmpegError as error:
            self._last_error, frames = error.strerror, []
            # After a jump the first packet is often a part of one.
            if packet is not None and not (self._jumped and self.read_seconds == 0):
                self.lost_seconds += self._length(packet)
        else:
            self._count_silent(packet, sum(frame.samples / frame.sample_rate for frame in frames if frame.sample_rate))
        for frame in frames:
            keep_layout(frame)
        for frame in frames:
            self._count(frame)
            seconds = frame.samples / frame.sample_rate
            began = self._time(frame)
            in_floats, several = frame.format.name.startswith(("flt", "dbl")), frame.layout.nb_channels > 1
            samples = values(frame) if in_floats or several else None
            if not in_floats or self._are_numbers(samples):
                self.read_seconds += seconds
                yield Timed(frame, began, samples if several else None)
            else:
                self.lost_seconds += seconds

    def _count_silent(self, packet: Any, seconds: float) -> None:
        """Count packets that gave neither sound nor an error as lost, once a later packet gives no more than its own
        sound. Some codecs give the sound of several packets at once, and the first and last packets often give none."""
        length = 0.0 if packet is None else self._length(packet)
        if seconds == 0:
            self._silent_seconds += length if self.read_seconds else 0.0
        elif self._silent_seconds:
            self.lost_seconds += max(0.0, self._silent_seconds - max(0.0, seconds - length))
            self._silent_seconds = 0.0

    def _time(self, frame: Any) -> float | None:
        if self.bare:
            return self.read_seconds + self.lost_seconds
        time = None if frame.time is None else float(frame.time)
        # Some containers state one time for many frames.
        moved = time if time != self._last else None
        self._last = time
        return moved

    def _count(self, frame: Any) -> None:
        if not SLOWEST_HZ <= frame.sample_rate <= FASTEST_HZ:
            raise CorruptFileError(
                f"{self._path.name} says that its sound has {frame.sample_rate} samples a second",
                remedy=f"{SAVE_ANEW} of 16 or 48 kHz",
            )
        known = self.read_seconds + self.lost_seconds
        check_sound(self._path, known + frame.samples / frame.sample_rate, self._limits)
        self._samples += frame.samples * frame.layout.nb_channels
        if self._samples > SAMPLES_A_SECOND * self._limits.longest_seconds:
            raise _too_much(self._path, "samples")

    def _are_numbers(self, samples: Any) -> bool:
        """Whether all samples are finite; after a damaged packet a lossy decoder may give others. Raises
        CorruptFileError where a file stores samples that are not finite."""
        if not self._float_pcm and np.isfinite(np.vdot(samples, samples)):
            return True
        sizes = np.abs(samples)
        if np.isfinite(sizes.max(initial=0.0)):
            self._beyond += int((sizes > 1).sum()) if self._float_pcm else 0
            return True
        if not self._float_pcm:
            return False
        raise CorruptFileError(
            f"{self._path.name} holds samples that are no numbers (NaN or infinite), the first after "
            f"{self.read_seconds:.1f} s",
            remedy=f"mend it in what it was made with, and {SAVE_ANEW}",
        )


def _too_much(path: Path, what: str) -> BeyondLimitError:
    return BeyondLimitError(
        f"{path.name} has more {what} of sound than three hours of speech would",
        remedy=f"remove it; if it is what it claims to be, {SAVE_ANEW} with one channel, or cut it into shorter files",
    )
