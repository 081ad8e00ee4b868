"""The sound of a file: 16-bit mono at the rate asked for, in step with the pictures where there are any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import CorruptFileError
from preparation.media.container import DEFAULT_LIMITS, PLAY_IT, opened, sound_track
from preparation.media.conversions import Conversions
from preparation.media.limits import BeyondLimitError, check_sound
from preparation.media.rates import AUDIO_RATE_HZ, SAMPLES_PER_FRAME
from preparation.media.sound_track.packets import SoundPackets
from preparation.media.sound_track.timeline import HOLE_SECONDS, Timeline
from preparation.media.track.decoding import first_picture_seconds
from preparation.settings import MediaSettings

PREROLL_SECONDS = 0.5
"""A part is decoded from this much earlier: a lossy codec needs the previous packet to decode the first one rightly."""


def open_sound(path: Path, limits: MediaSettings = DEFAULT_LIMITS) -> Sound:
    """The sound of a file: its default track, or else the first that can be decoded.

    Raises CorruptFileError for a file that is no media file, and for one whose sound tracks cannot be decoded.
    """
    with opened(path, limits) as container:
        track = sound_track(container, path)
        return Sound(path, limits, None if track is None else track.number)


class Sound:
    """The sound of one file. Each reading method reads the file anew, and returns no samples where it has no sound.

    Sample n of a result is n / rate seconds after its start: holes in the timestamps are silence. Each method raises
    CorruptFileError for sound that cannot be read, and for sound most of which is missing.
    """

    def __init__(self, path: Path, limits: MediaSettings, track: int | None) -> None:
        self._path, self._limits, self._track = path, limits, track
        self.conversions = Conversions(sound_track=track or 0)
        """What was converted in the sound; complete once the sound has been read."""

    @property
    def exists(self) -> bool:
        """Whether the file has a sound track, which may be empty."""
        return self._track is not None

    def look(self, note: Callable[[Any], None] = lambda packet: None) -> Conversions:
        """The conversions, as far as packets show them; the sound is decoded only where the packets show a hole.

        `note` is called with each packet.
        """
        if self.exists and self._gap_seconds(note) > HOLE_SECONDS:
            self.samples()
        return self.conversions

    def samples(self, rate_hz: int = AUDIO_RATE_HZ) -> NDArray[np.int16]:
        """The whole sound from its own start: int16 [S], mono; also of a file without pictures."""
        return self._read(rate_hz).sound() if self.exists else _nothing()

    def in_step(self, rate_hz: int = AUDIO_RATE_HZ) -> NDArray[np.int16]:
        """The sound from the first video frame on: int16 [S], mono.

        A track that starts later than the pictures is preceded by silence; one that starts earlier is cut.
        """
        if not self.exists:
            return _nothing()
        timeline = self._read(rate_hz, with_pictures=True)
        zero = first_picture_seconds(self._path, self._limits)
        check_sound(self._path, timeline.start - zero, self._limits)
        return timeline.sound(zero)

    def span(self, start_seconds: float, end_seconds: float, rate_hz: int = AUDIO_RATE_HZ) -> NDArray[np.int16]:
        """The sound of a part of a long video, in seconds after its first frame: int16 [(end - start) * rate], mono.

        Where the track starts later or ends earlier, zeros keep sound and pictures in step.
        """
        check_sound(self._path, end_seconds - start_seconds, self._limits)
        if not self.exists:
            return _nothing()
        start = first_picture_seconds(self._path, self._limits) + start_seconds
        samples = round((end_seconds - start_seconds) * rate_hz)
        sought = start if start_seconds > 0 else None
        timeline = self._read(rate_hz, with_pictures=True, start=sought, end=start + samples / rate_hz)
        return timeline.sound(start, samples)

    def _gap_seconds(self, note: Callable[[Any], None]) -> float:
        """The longest time between the end of a packet and the beginning of the next."""
        with opened(self._path, self._limits) as container:
            packets = self._packets(container)
            longest = packets.gap_seconds(note)
            return 0.0 if packets.bare else longest

    def _packets(self, container: Any) -> SoundPackets:
        track = sound_track(container, self._path)
        if track is None:
            raise CorruptFileError(f"{self._path.name} changed while it was read", remedy="run the command again")
        return SoundPackets(container, track.stream, self._path, self._limits)

    def _read(
        self, rate_hz: int, with_pictures: bool = False, start: float | None = None, end: float = float("inf")
    ) -> Timeline:
        """Decode the track from `start` to `end` seconds of the file's own time; decode it again, with one channel
        alone, where the mix of its channels has lost the voice."""
        timeline = self._decode(rate_hz, {}, with_pictures, start, end)
        chosen = {name: levels.chosen() for name, levels in timeline.levels.items()}
        alone = {name: channel for name, channel in chosen.items() if channel is not None}
        if alone:
            names = ", ".join(dict.fromkeys(timeline.levels[name].name(channel) for name, channel in alone.items()))
            timeline = self._decode(rate_hz, alone, with_pictures, start, end)
            self.conversions = replace(self.conversions, channel=names)
        return timeline

    def _decode(
        self, rate_hz: int, alone: Mapping[str, int], with_pictures: bool, start: float | None, end: float
    ) -> Timeline:
        with opened(self._path, self._limits) as container:
            packets = self._packets(container)
            timeline = Timeline(self._path, rate_hz, self._limits, alone)
            timeline.read(packets if start is None else packets.sought(max(0.0, start - PREROLL_SECONDS)), end)
        self._check_and_record(packets, timeline, with_pictures)
        return timeline

    def _check_and_record(self, packets: SoundPackets, timeline: Timeline, with_pictures: bool) -> None:
        """Record what was converted; raise CorruptFileError for sound most of which is missing."""
        name, lost = self._path.name, packets.lost_seconds + timeline.trimmed_seconds
        if lost > packets.read_seconds:
            raise CorruptFileError(
                f"most of the sound of {name} cannot be decoded: {lost:.1f} s of {lost + packets.read_seconds:.1f} s",
                remedy=PLAY_IT,
            )
        if timeline.filled_seconds > packets.read_seconds + self._limits.longest_gap_seconds:
            raise BeyondLimitError(
                f"{name} has holes of {timeline.filled_seconds:.0f} s in {packets.read_seconds:.0f} s of sound",
                remedy="play it to see whether it is whole and copy or download it again; if it is, cut it there or "
                "raise preparation.corpus.media.longest_gap_seconds",
            )
        if with_pictures and timeline.resets:
            raise CorruptFileError(
                f"the time of {name} begins anew in its middle, so that its sound cannot be kept with its pictures",
                remedy="it is several files joined: give each by itself, or join them anew (ffmpeg -i FILE NEW.mp4)",
            )
        self.conversions = replace(
            self.conversions,
            resampled=timeline.resampled,
            filled_seconds=round(timeline.filled_seconds, 3),
            lost_sound_seconds=round(lost, 3),
        )


def fit_audio(audio: NDArray[np.int16], frames: int) -> NDArray[np.int16]:
    """Cut or pad sound (with silence) to exactly `frames` pictures: int16 [frames * 640]."""
    samples = frames * SAMPLES_PER_FRAME
    return np.pad(audio[:samples], (0, max(0, samples - len(audio))))


def _nothing() -> NDArray[np.int16]:
    return np.zeros(0, dtype=np.int16)
