"""Records of what was done to a file's pictures and sound beyond decoding, so that no conversion is silent."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

from common.files import write_text


@dataclass(frozen=True)
class Conversions:
    """One field for each conversion; the defaults mean that nothing was converted.

    Headers, packets and the first picture tell most of it when a file is opened; what only decoding shows (damage,
    changes in mid-file) is known once the file has been read.
    """

    picture_track: int = 0
    """Which picture track is read, counted from 0; not the first where another is the default or the first cannot be
    decoded."""
    sound_track: int = 0
    """Which sound track is read, counted from 0."""
    deinterlaced: bool = False
    tone_mapped: bool = False
    """HLG, PQ or a wide gamut was converted to Rec. 709."""
    turned: bool = False
    """Pictures were turned by a quarter or half turn, as the container or the stream asks."""
    mirrored: bool = False
    squared: bool = False
    """Pixels that are not square were scaled to square ones."""
    resized: bool = False
    """Pictures of another size or shape than the first were fitted into its frame."""
    lost_frames: int = 0
    """Pictures that cannot be decoded, or only in part; the previous picture is repeated for each."""

    resampled: bool = False
    """The sound's rate or channels change within the track; ordinary resampling to 16 kHz does not count."""
    filled_seconds: float = 0.0
    """Silence that fills holes in the sound."""
    channel: str = ""
    """The one channel that was taken because the mix of all would have lost the voice: `left`, `channel 3`."""
    lost_sound_seconds: float = 0.0
    """Sound that cannot be decoded, in whose place is silence, or that overlapped other sound."""

    def with_those(self, others: Conversions) -> Conversions:
        """The conversions of both; of two numbers the larger."""
        return Conversions(**{f.name: max(getattr(self, f.name), getattr(others, f.name)) for f in fields(self)})

    def made(self) -> dict[str, bool | int | float | str]:
        """The conversions that were made, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


def save_conversions(made: Conversions, path: Path) -> None:
    """Write what was converted in a file's source, for the manifest to read."""
    write_text(path, json.dumps(made.made(), sort_keys=True) + "\n")


def load_conversions(path: Path) -> Conversions:
    """Read what `save_conversions` wrote; no conversions where the file is missing or of another version."""
    try:
        return Conversions(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Conversions()
