"""What the name of an HDTF clip says: the video that it was cut from, the cut's number, and who speaks.

`WDA_KatieHill_000.mp4` is cut 0 of the video `WDA_KatieHill`; `WRA_AdamKinzinger2_1.mp4` is cut 1 of one of the
three videos of AdamKinzinger. The groups are RD (radio), WDA and WRA (weekly addresses of two parties).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

GROUPS = ("RD", "WDA", "WRA")

_GROUPED = re.compile(rf"(?:^|[_-])((?:{'|'.join(GROUPS)})_[^_]+)[_-](\d+)$")
_BARE = re.compile(r"^([A-Za-z][A-Za-z-]*\d*)[_-](\d+)$")
_PERSON = re.compile(r"^((?:WDA|WRA)_.*?)\d+$")


@dataclass(frozen=True)
class Cut:
    """The video that a clip was cut from, its group first where the name has it, and the cut's number as written."""

    video: str
    number: str

    @property
    def person(self) -> str:
        """Who speaks: politicians' videos are numbered by person, while each radio programme is its own."""
        person = _PERSON.match(self.video)
        return person[1] if person else self.video


def cut_of(stem: str) -> Cut | None:
    """What a clip's name says; None where it follows neither `<group>_<video>_<cut>` nor `<video>_<cut>`."""
    found = _GROUPED.search(stem) or _BARE.match(stem)
    return Cut(found[1], found[2]) if found else None
