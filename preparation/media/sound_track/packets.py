"""The decoded frames of a sound track with the times they belong to; a packet that cannot be decoded is left out."""

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
from preparation.media.sound_track.channels import values
from preparation.settings import MediaSettings

BARE = frozenset({"aac", "ac3", "amr", "dts", "eac3", "gsm", "loas", "mlp", "mp3", "truehd"})
"""Formats that hold a codec's packets and nothing else: FFmpeg makes their timestamps up, from the first's rate."""

PACKETS_A_SECOND = 400
"""Opus has the shortest packets, 2.5 ms; a file with more of them is made to be slow."""

SAMPLES_A_SECOND = 8 * 48_000
"""Of all channels together, on average over the longest file: which bounds the time that a file takes."""

SLOWEST_HZ, FASTEST_HZ = 2_000, 2_000_000
"""Rates of sound. Headers that say others are broken, and resampling from them takes minutes or gigabytes."""

FULL_SCALE_SHARE = 0.2
"""Floating-point sound clips now and then. Where more of it lies beyond full scale, it was stored in another unit."""

SAVE_ANEW = "save it anew, as 16-bit WAV for one"


@dataclass(frozen=True)
class Timed:
    """A decoded frame of sound; when it begins, seconds, None where the container does not say; and its samples
    [channels, S] as they are stored, where it has more than one channel."""

    frame: Any
    seconds: float | None
    samples: NDArray[Any] | None


class SoundPackets:
    """Reads the frames of one track in the order of the file, from where the container was sought to.

    Raises CorruptFileError at samples that are no numbers, and at the first bound of `limits` that is passed.
    `lost_seconds` counts what could not be decoded, `read_seconds` what could.
    """

    def __init__(self, container: Any, stream: Any, path: Path, limits: MediaSettings) -> None:
        self._container, self._stream, self._path, self._limits = container, stream, path, limits
        self.bare = container.format.name in BARE
        self._float_pcm = stream.codec_context.name.startswith("pcm_f")
        self._tag_end = 0
        self._samples = self._beyond = 0
        self.lost_seconds = self.read_seconds = 0.0
        self._last: float | None = None
        self._owed, self._jumped = 0.0, False
        self._said: str | None = None

    def sought(self, seconds: float) -> Iterator[Timed]:
        """The frames from a packet before `seconds` on, or from the beginning where the file's index misleads."""
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
        if self._said is not None and self.read_seconds == 0:
            raise CorruptFileError(
                f"nothing of the sound of {self._path.name} can be decoded: {self._said}", remedy=PLAY_IT
            )
        if self._beyond > FULL_SCALE_SHARE * self._samples:
            raise CorruptFileError(
                f"{self._path.name} holds floating-point sound far beyond full scale, which is 1",
                remedy="divide its samples by their largest value, or save it anew as 16-bit WAV",
            )

    def gap_seconds(self, note: Callable[[Any], None]) -> float:
        """The longest time from the end of a packet to the beginning of the next, in the order of the file. A packet
        that does not say how long it lasts counts as long as the one before; `note` is shown each."""
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
        """How long a packet lasts, seconds; 0 where that is unknown. In MP4 it is said to last until the next begins,
        so that holes look like long packets."""
        codec = self._stream.codec_context
        by_codec = codec.frame_size / codec.sample_rate if codec.frame_size and codec.sample_rate else 0.0
        said = float(packet.duration * packet.time_base) if packet.duration else by_codec
        return min(said, by_codec or said)

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
            self._said, frames = error.strerror, []
            # After a jump the first packet is often a part of one.
            if packet is not None and not (self._jumped and self.read_seconds == 0):
                self.lost_seconds += self._length(packet)
        else:
            self._settle(packet, sum(frame.samples / frame.sample_rate for frame in frames if frame.sample_rate))
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

    def _settle(self, packet: Any, seconds: float) -> None:
        """Count packets as lost that gave nothing and no error, once another gives no more than its own sound: some
        codecs give the sound of several packets at once, and the first and last are often only there to be cut off."""
        length = 0.0 if packet is None else self._length(packet)
        if seconds == 0:
            self._owed += length if self.read_seconds else 0.0
        elif self._owed:
            self.lost_seconds += max(0.0, self._owed - max(0.0, seconds - length))
            self._owed = 0.0

    def _time(self, frame: Any) -> float | None:
        if self.bare:
            return self.read_seconds + self.lost_seconds
        time = None if frame.time is None else float(frame.time)
        # Some containers say one time for many frames.
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
        """Whether all samples are finite; a lossy decoder that was led astray by a damaged packet can make others."""
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
