"""HDTF's metadata tables: which part of which video is a clip, and which square of the picture it shows.

Each of the groups RD, WDA and WRA has five tables, with one video or clip a line and columns separated by blanks:

<group>_annotion_time.txt  `Radio11.mp4 00:30-01:00 01:30-02:30`   start and end of each clip (the spelling is theirs)
<group>_crop_wh.txt        `Radio11_0.mp4 412 599 0 599`           x, width, y, height, in pixels
<group>_resolution.txt     `Radio11.mp4 720`                       height at which those pixels were counted
<group>_video_url.txt      `Radio11 https://...`                   where the video was published
<group>_crop_ratio.txt     `Radio11_0.mp4 1.2`                     the square's size in faces; no cut depends on it

As published they name 436 clips, of which 15 have no crop row: 421 are usable.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from pathlib import Path

from common.errors import PrivFedTalkError
from common.text.foreign import one_line
from common.text.names import composed
from common.text.tables import read_text
from preparation.corpora.candidate import LONGEST_BYTES
from preparation.corpora.hdtf.names import GROUPS
from preparation.quarantine import QuarantineRow

STEP = "cuts"
COMMON_HEIGHTS = (480, 720, 1080, 1440, 2160)

_CLOCK = r"(?:\d{1,3}:)?\d{1,5}:\d\d"
_SPAN = re.compile(rf"^({_CLOCK})-({_CLOCK})$", re.ASCII)
_NUMBER = re.compile(r"\d{1,6}", re.ASCII)
_NO_NAME = re.compile(r"[/\\\x00-\x1f\x7f]")
"""Characters that no video's name has; a slash would lead out of the folder that clips are written to."""
_VIDEO_ID = re.compile(r"(?:[?&]v=|youtu\.be/|/embed/|/shorts/)([\w-]{11})")


@dataclass(frozen=True)
class Annotation:
    """One usable clip. box: x, y, width, height in pixels of a picture `height` high (0: the table does not know)."""

    group: str
    video: str
    number: int
    start_seconds: float
    end_seconds: float
    box: tuple[int, int, int, int]
    height: int
    video_id: str

    @property
    def name(self) -> str:
        """The ready clip's name, e.g. `RD_Radio11_0`."""
        return f"{self.group}_{self.video}_{self.number}"


@dataclass(frozen=True)
class Tables:
    """What the tables hold: usable clips, a row for each clip that has no crop or time, and what else is odd."""

    clips: list[Annotation]
    rejects: list[QuarantineRow]
    notes: list[QuarantineRow]


def read_tables(folder: Path) -> Tables:
    """Read the tables of every group that is there; an odd row becomes a quarantine row, never a stop."""
    found = Tables([], [], [])
    present = [group for group in GROUPS if (folder / f"{group}_annotion_time.txt").exists()]
    if not present:
        raise PrivFedTalkError(
            f"{folder} holds none of HDTF's tables ({', '.join(f'{group}_annotion_time.txt' for group in GROUPS)})",
            remedy="point --tables at the folder HDTF_dataset of the published data set",
        )
    for group in present:
        _read_group(folder, group, found)
    return found


def _read_group(folder: Path, group: str, found: Tables) -> None:
    times = _rows(folder / f"{group}_annotion_time.txt", found)
    boxes = _rows(folder / f"{group}_crop_wh.txt", found)
    heights = _rows(folder / f"{group}_resolution.txt", found)
    urls = _rows(folder / f"{group}_video_url.txt", found)
    for video in sorted((set(urls) | set(heights)) - set(times)):
        reason = f"{group}_annotion_time.txt has no row for this video, so no clip of it is known"
        found.notes.append(QuarantineRow(f"{group}_{video}", STEP, reason, _ADD.format(row=f"{video}.mp4 mm:ss-mm:ss")))
    for video, spans in times.items():
        if _NO_NAME.search(video) or len(video.encode()) > LONGEST_BYTES:
            reason = f"{group}_annotion_time.txt names no video: {one_line(video, 60)!r}"
            found.rejects.append(QuarantineRow(f"{group}_annotion_time.txt", STEP, reason, "write the video's name"))
            continue
        height = _height(group, video, heights.get(video, []), found)
        link = _VIDEO_ID.search(" ".join(urls.get(video, [])))
        for number, span in enumerate(spans):
            try:
                start, end = _seconds(span)
                box = _box(group, boxes.get(f"{video}_{number}"), f"{video}_{number}.mp4")
            except PrivFedTalkError as error:
                found.rejects.append(QuarantineRow(f"{group}_{video}_{number}", STEP, error.reason, error.remedy))
                continue
            clip = Annotation(group, video, number, start, end, box, height, link[1] if link else "")
            found.clips.append(clip)
            if height and box[1] + box[3] > height:
                reason = f"its crop reaches down to {box[1] + box[3]} pixels, beyond the listed height of {height}"
                remedy = "the crop is taken in the file's own pixels, where it fits; correct the height to scale it"
                found.notes.append(QuarantineRow(clip.name, STEP, reason, remedy))


_ADD = "the published tables have none; add `{row}` to use it"


def _height(group: str, video: str, columns: list[str], found: Tables) -> int:
    """The height that crops were counted at; 0 and a row where the table does not say, a row where it is unusual."""
    height = int(columns[0]) if len(columns) == 1 and _NUMBER.fullmatch(columns[0]) else 0
    if height not in COMMON_HEIGHTS:
        shown = " ".join(columns) or "nothing"
        remedy = "crops are scaled from that height to the file's; correct it if faces lie beside their crops"
        if not height:
            remedy = "crops are taken in the file's own pixels; write the height they were counted at to scale them"
        reason = f"{group}_resolution.txt gives {shown} as its height"
        found.notes.append(QuarantineRow(f"{group}_{video}", STEP, reason, remedy))
    return height


def _seconds(span: str) -> tuple[float, float]:
    parsed = _SPAN.match(span)
    start, end = (_clock(parsed[1]), _clock(parsed[2])) if parsed else (0.0, 0.0)
    if end <= start:
        raise PrivFedTalkError(f"'{span}' is not a stretch of time", remedy="write it as mm:ss-mm:ss, the start first")
    return start, end


def _clock(text: str) -> float:
    seconds = 0
    for part in text.split(":"):
        seconds = 60 * seconds + int(part)
    return float(seconds)


def _box(group: str, columns: list[str] | None, name: str) -> tuple[int, int, int, int]:
    """x, y, width, height; the table's order is x, width, y, height."""
    if columns is None:
        raise PrivFedTalkError(
            f"{group}_crop_wh.txt has no row for this clip", remedy=_ADD.format(row=f"{name} x width y height")
        )
    if len(columns) != 4 or not all(map(_NUMBER.fullmatch, columns)) or 0 in map(int, columns[1::2]):
        raise PrivFedTalkError(
            f"{group}_crop_wh.txt gives '{' '.join(columns)}' as its crop", remedy="write it as x width y height"
        )
    x, width, y, height = map(int, columns)
    return x, y, width, height


def _rows(path: Path, found: Tables) -> dict[str, list[str]]:
    """The other columns by the first one, without its extension; of two rows for one name the first counts."""
    if not path.exists():
        found.notes.append(QuarantineRow(path.name, STEP, "this table is missing", "copy it beside the others"))
        return {}
    text = composed(read_text(path, "the table", lenient=True))
    with path.open("rb") as file:
        marked = file.read(3) == BOM_UTF8
    if marked:
        remedy = "nothing to do: it was read without the mark"
        found.notes.append(QuarantineRow(path.name, STEP, "the table begins with a byte order mark", remedy))
    rows: dict[str, list[str]] = {}
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        columns = line.split()
        if not columns:
            continue
        name = columns[0].removesuffix(".mp4")
        if name in rows:
            reason = f"line {number} names {name} once more"
            found.notes.append(QuarantineRow(path.name, STEP, reason, "the first row was taken; delete one of them"))
        else:
            rows[name] = columns[1:]
    return rows
