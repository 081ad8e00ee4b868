"""A clip of a corpus: a row of the manifest with all that is known of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields

from preparation.media.conversions import Conversions


@dataclass(frozen=True)
class Clip:
    """A manifest row. `path`, `sidecar` and `truth` are relative to the corpus root, with forward slashes.

    frames, fps, seconds and audio_rate_hz (0: no sound) are the source's own; the steps that follow work at 25 fps and
    16 kHz. width and height are as shown: upright, with square pixels. `pictures_sha256` and `sound_sha256` are of the
    packets, see `preparation.corpora.twins`. Each field of `conversions` is a column: what is converted when the clip
    is read, as far as headers and the first picture tell.
    """

    clip_id: str
    speaker: str
    path: str
    corpus: str
    subset: str
    frames: int
    fps: float
    width: int
    height: int
    seconds: float
    audio_rate_hz: int
    bytes: int
    sha256: str
    sidecar: str | None
    truth: str | None
    pictures_sha256: str = ""
    sound_sha256: str = ""
    conversions: Conversions = field(default_factory=Conversions)

    @property
    def name(self) -> str:
        """The clip's name within its speaker."""
        return self.clip_id.rpartition("/")[2]


OWN_COLUMNS = [each.name for each in fields(Clip) if each.name != "conversions"]
COLUMNS = [*OWN_COLUMNS, *(each.name for each in fields(Conversions))]

_CUT_OF_A_CLIP = re.compile(r"(?:@\d+)+$")


def recording_of(clip_id: str) -> str:
    """The id of the clip that a piece (`anna/talk@003`), or a part of a long sample (`anna/talk@003@250`), was cut
    from: `anna/talk`. The id of a whole clip is returned as it is, because no clip's name holds an `@`."""
    return _CUT_OF_A_CLIP.sub("", clip_id)


def piece_name(name: str, number: int) -> str:
    """The name of a clip's piece: `talk@003`."""
    return f"{name}@{number:03d}"
