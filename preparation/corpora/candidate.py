"""What a corpus reader finds before any file is opened."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\:*?\"<>|.\s]+")

LONGEST_BYTES = 160
"""File systems take 255 bytes, and extensions and temporary names are still to be added."""


@dataclass(frozen=True)
class Candidate:
    """A file that claims to be a clip, named in the corpus's own terms; paths are relative to the root."""

    path: str
    speaker: str
    name: str
    subset: str = ""
    sidecar: str | None = None
    truth: str | None = None


def safe_name(text: str) -> str:
    """A name that can be a folder, a tar member and an id; unicode letters stay.

    Where something had to be replaced or cut off, eight hex digits of the original are added, because two names that
    differ only in a space must not become one speaker.
    """
    if text and not _UNSAFE.search(text) and len(text.encode("utf-8", "surrogateescape")) <= LONGEST_BYTES:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    readable = _UNSAFE.sub("_", text).strip("_-").encode("utf-8", "replace")[:LONGEST_BYTES].decode(errors="ignore")
    return f"{readable or 'clip'}-{digest}"
