"""What was done to a file's pictures and sound beyond decoding, so that nothing is converted without a word."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

from common.files import write_text


@dataclass(frozen=True)
class Conversions:
    """One field for each conversion; the defaults say that nothing was converted.

    Headers, packets and the first picture tell most of it when a file is opened; what only decoding shows (damage, a
    change in mid-file) is there when it has been read.
    """

    picture_track: int = 0
    """Which picture track is read, counted from 0: another than the first where that is not the default or cannot be
    decoded."""
    sound_track: int = 0
    """Which sound track is read, counted from 0."""
    deinterlaced: bool = False
    tone_mapped: bool = False
    """HLG, PQ or a wide gamut became Rec. 709."""
    turned: bool = False
    """By a quarter or half turn, as the container or the stream asks."""
    mirrored: bool = False
    squared: bool = False
    """Pixels that are not square were scaled to square ones."""
    resized: bool = False
    """Pictures of another size or shape than the first were fitted into its frame."""
    lost_frames: int = 0
    """Pictures that cannot be decoded, or only in part; the one before each is held."""

    resampled: bool = False
    """The sound's rate or channels change within the track; the ordinary way from 44.1 to 16 kHz is no news."""
    filled_seconds: float = 0.0
    """Silence in the place of holes in the sound."""
    channel: str = ""
    """The one channel that was taken because the mix of all would have lost the voice: `left`, `channel 3`."""
    lost_sound_seconds: float = 0.0
    """Sound that cannot be decoded, silent in its place, or that overlapped other sound."""

    def with_those(self, others: Conversions) -> Conversions:
        """What was done in either: of numbers the larger."""
        return Conversions(**{f.name: max(getattr(self, f.name), getattr(others, f.name)) for f in fields(self)})

    def made(self) -> dict[str, bool | int | float | str]:
        """Those that were made, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


def save_conversions(made: Conversions, path: Path) -> None:
    """Keep what was done to a file's source, for whoever lists the file."""
    write_text(path, json.dumps(made.made(), sort_keys=True) + "\n")


def load_conversions(path: Path) -> Conversions:
    """What `save_conversions` kept; nothing where that is not there, or of another version."""
    try:
        return Conversions(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Conversions()
