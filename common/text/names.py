"""Names of people as others type them: `é` as one letter (NFC) or as a letter and an accent (NFD) is one name.

Disks and keyboards choose between the two without asking: a folder made on macOS is often NFD, a table typed on Windows
NFC. Every look-up of a name goes through this module; `preparation.corpora.candidate.part_alike` makes sure that no two
folders of one corpus differ only in this.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def composed(name: str) -> str:
    """The spelling by which names are compared: NFC."""
    return unicodedata.normalize("NFC", name)


def own_spelling(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` means, in its known spelling; None where there is none."""
    among = list(known)
    if name in among:
        return name
    wanted = composed(name)
    return next((each for each in among if composed(each) == wanted), None)
