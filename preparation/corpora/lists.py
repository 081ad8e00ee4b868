"""Lists of LRS3 clips, as papers publish their selections: one clip or pair of clips a line, or a table with a path.

    pretrain/-FOCpMAww28/00002
    path,offset_sec,vstart_sec            a CSV whose header has a column `path`
    uL5XUwfkxZw/00007 DOgsYATbVSs/00003   sound of one clip, pictures of another: both are named

The subset may be missing, folders may precede it, and an extension may follow the clip. Folders may be separated by
backslashes, and a table's cells in any way that `common.text.tables` reads.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from common.errors import PrivFedTalkError
from common.text.foreign import one_line
from common.text.names import composed
from common.text.tables import cells_of, read_lines, read_text
from preparation.corpora.candidate import Candidate
from preparation.quarantine import QuarantineRow

WHAT = "the list"
SUBSETS = ("pretrain", "trainval", "test", "volunteers")
_CLIP = re.compile(rf"^(?:\S*?/)??(?:({'|'.join(SUBSETS)})/)?([\w-]+)/([\w-]+)(?:\.\w{{1,5}})?$")


@dataclass(frozen=True)
class Listed:
    """A clip that a list names; an empty subset means whichever holds it."""

    subset: str
    video: str
    clip: str

    def __str__(self) -> str:
        return "/".join(part for part in (self.subset, self.video, self.clip) if part)


@dataclass(frozen=True)
class Selection:
    """All that the lists name: each clip with the first list that does so, and a row for each line not understood."""

    clips: dict[Listed, str]
    rows: list[QuarantineRow]

    def holds(self, candidate: Candidate) -> bool:
        return any(listed in self.clips for listed in _ways_to_name(candidate))

    def absent(self, found: Iterable[Candidate]) -> list[QuarantineRow]:
        """A row for each clip that is listed and not among those found."""
        present = {listed for candidate in found for listed in _ways_to_name(candidate)}
        remedy = "copy it into the corpus, read its subset too (preparation.corpus.subsets), or take it off the list"
        return [
            QuarantineRow(str(listed), "manifest", f"listed in {name}, but not in the corpus", remedy)
            for listed, name in self.clips.items()
            if listed not in present
        ]


def read_lists(paths: Collection[Path]) -> Selection:
    """Read every list. A list in which no line names a clip is an error; a single such line becomes a row."""
    clips: dict[Listed, str] = {}
    rows: list[QuarantineRow] = []
    for path in paths:
        named, unread = 0, []
        for number, text, ids in _lines(path):
            for listed in ids:
                clips.setdefault(listed, path.name)
            named += len(ids)
            if not ids:
                unread.append((number, text))
        if not named:
            shown = f": line {unread[0][0]} is {one_line(unread[0][1], 60)!r}" if unread else ": it is empty"
            raise PrivFedTalkError(
                f"{path} names no clip{shown}",
                remedy="give one clip a line, as pretrain/<video>/<clip>, or a CSV with a column `path`",
            )
        for number, text in unread:
            reason = f"line {number} names no clip: {one_line(text, 60)!r}"
            rows.append(QuarantineRow(path.name, "manifest", reason, "write it as pretrain/<video>/<clip>"))
    return Selection(clips, rows)


def version_of(path: Path) -> str:
    """A hash of a list's text; raises the error of `read_lists` where the list cannot be read."""
    return hashlib.sha256(read_text(path, WHAT, lenient=True).encode()).hexdigest()


def parse(text: str) -> list[Listed]:
    """The clips that a line names: the first column must be one, and further columns count where they are."""
    ids = [_CLIP.match(column) for column in composed(text).replace("\\", "/").split()]
    if not ids or ids[0] is None:
        return []
    return [Listed(found[1] or "", found[2], found[3]) for found in ids if found is not None]


def _lines(path: Path) -> Iterator[tuple[int, str, list[Listed]]]:
    """Number, text and clips of each line that is not empty, the header of a CSV left out."""
    # Bytes that are not UTF-8 can only be in comments and folders: clips of LRS3 are named in ASCII.
    cells = cells_of(path, "path", WHAT, lenient=True)
    table = cells is not None
    for number, line in cells if cells is not None else enumerate(read_lines(path, WHAT, lenient=True), start=1):
        text = line.strip()
        if (text or table) and not text.startswith("#"):
            yield number, text, parse(text)


def _ways_to_name(candidate: Candidate) -> tuple[Listed, Listed]:
    subset, video, file = Path(composed(candidate.path)).parts[-3:]
    return Listed(subset, video, Path(file).stem), Listed("", video, Path(file).stem)
