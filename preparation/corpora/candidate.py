"""What a corpus reader finds before any file is opened."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from common.text.foreign import is_invisible
from preparation.quarantine import QuarantineRow

Claim = TypeVar("Claim", bound=Hashable)

_UNSAFE = re.compile(r"[/\\:*?\"<>|.\s$%&;=@^`{}\[\]~#!]+")
"""What separates paths, matches files, or means something to a shell, a spreadsheet, a page or a chart."""

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)
"""Names that Windows keeps for devices, with whatever ending."""

LONGEST_BYTES = 160
"""File systems allow 255 bytes, and extensions and temporary names are added later."""


@dataclass(frozen=True)
class Candidate:
    """A file that claims to be a clip, named in the corpus's own terms; paths are relative to the root."""

    path: str
    speaker: str
    name: str
    subset: str = ""
    sidecar: str | None = None
    truth: str | None = None
    refusal: tuple[str, str] | None = None
    """Why the reader itself refuses the file, and the remedy."""


def safe_name(text: str) -> str:
    """A name that can be a folder on any system, a tar member and an id; unicode letters stay.

    Where something had to be replaced or cut off, eight hex digits of the original are added, because two names that
    differ only in a space must not become one speaker.
    """
    visible = "".join("_" if is_invisible(letter) else letter for letter in text)
    harmless = text and visible == text and not _UNSAFE.search(text) and not _RESERVED.fullmatch(text)
    if harmless and len(text.encode("utf-8", "surrogateescape")) <= LONGEST_BYTES:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    readable = _UNSAFE.sub("_", visible).strip("_-").encode("utf-8", "replace")
    return f"{readable[: LONGEST_BYTES - 9].decode(errors='ignore') or 'clip'}-{digest}"


def distinct_names(claims: Mapping[Claim, str]) -> dict[Claim, str]:
    """A safe name for each claim, made from its text; unequal claims never share a name.

    `anna-maria/` and `anna/maria/` would both be `anna-maria`. Both get digits of a hash of the claim instead, because
    a record of one (consent, an adapter) must not pass to the other. A claim whose text is unique keeps it.
    """
    names = {claim: safe_name(text) for claim, text in claims.items()}
    digits = 8
    while clashing := {name for name, count in Counter(names.values()).items() if count > 1}:
        for claim, name in names.items():
            if name in clashing:
                names[claim] = _with_digits(safe_name(claims[claim]), repr(claim), digits)
        digits += 8
    return names


def tell_apart(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates; clips of one speaker that share a name get digits of a hash of their paths, so that they do not
    share a crop (two subsets of LRS3; `a.mp4` and a file that is called like the replacement name of `a.mov`)."""
    ordered = list(candidates)
    keys = {each.path: f"{each.speaker}/{each.name}" for each in ordered if each.refusal is None}
    digits = 8
    while clashing := {key for key, count in Counter(keys.values()).items() if count > 1}:
        for each in ordered:
            if keys.get(each.path) in clashing:
                keys[each.path] = f"{each.speaker}/{_with_digits(each.name, each.path, digits)}"
        digits += 8
    return [replace(each, name=keys[each.path].rpartition("/")[2]) if each.path in keys else each for each in ordered]


def _with_digits(name: str, original: str, digits: int) -> str:
    digest = hashlib.sha256(original.encode("utf-8", "surrogateescape")).hexdigest()[:digits]
    return f"{name.encode()[: LONGEST_BYTES - digits - 1].decode(errors='ignore')}-{digest}"


def part_alike(candidates: Iterable[Candidate]) -> tuple[list[Candidate], list[QuarantineRow]]:
    """The candidates whose names differ in more than case and in how letters are composed, and rows for the others.

    Names that differ only so are one folder on many disks, and one person to readers. The first in order of names
    stays; whether the other is the same person, only the owner of the corpus can say.
    """
    ordered = [one for one in candidates if one.refusal is None]
    speakers: dict[str, str] = {}
    clips: dict[tuple[str, str], Candidate] = {}
    for one in sorted(ordered, key=lambda each: (each.speaker, each.name, each.path)):
        speakers.setdefault(folded(one.speaker), one.speaker)
        clips.setdefault((folded(one.speaker), folded(one.name)), one)
    kept: list[Candidate] = []
    rows: list[QuarantineRow] = []
    for one in ordered:
        other_speaker = speakers[folded(one.speaker)]
        other_clip = clips[folded(one.speaker), folded(one.name)].name
        if other_speaker != one.speaker:
            rows.append(_alike(one, f"its speaker {one.speaker}", other_speaker, "put one person's clips into one"))
        elif other_clip != one.name:
            rows.append(_alike(one, f"its name {one.name}", other_clip, "remove the copy"))
        else:
            kept.append(one)
    return kept, rows


def _alike(one: Candidate, what: str, other: str, remedy: str) -> QuarantineRow:
    reason = f"{what} differs from {other} only in case or in how letters are composed"
    printable = one.path.encode("utf-8", "backslashreplace").decode()
    return QuarantineRow(printable, "manifest", reason, f"{remedy}, or give it a name of its own")


def folded(name: str) -> str:
    """A form of a name that is equal for names which a disk or a reader would take for one."""
    return unicodedata.normalize("NFKC", name).casefold()
