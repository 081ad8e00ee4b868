"""Cut clips from source videos: each annotated stretch is cut, cropped to its square and written with its sound.

An existing cut is kept as long as its table row, its source file and the settings are the same; these are recorded
beside the clips in `.cuts/<clip>.json`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from common.errors import CorruptFileError, PrivFedTalkError
from common.files import write_text
from common.progress import track
from common.text.names import composed
from common.workers import Done, map_processes
from preparation.corpora.hdtf.tables import STEP, Annotation, read_tables
from preparation.corpora.walking import CUT_RECORDS, SOUND, USUAL, converted_beside, holds, walk
from preparation.media.container import DEFAULT_LIMITS
from preparation.media.conversions import Conversions, save_conversions
from preparation.media.sound import open_sound
from preparation.media.track.frames import Frame
from preparation.media.video import open_video
from preparation.media.writing import encode
from preparation.quarantine import QuarantineRow
from preparation.settings import CorpusSettings, CutSettings, MediaSettings

_ID = re.compile(r"(?:^|[\[-])([\w-]{11})\]?$")


@dataclass(frozen=True)
class CutSummary:
    """The results for annotated clips: cut now, kept from before, refused (a row each); `notes` are other oddities."""

    made: int
    kept: int
    refused: list[QuarantineRow]
    notes: list[QuarantineRow]

    @property
    def rows(self) -> list[QuarantineRow]:
        return [*self.refused, *self.notes]


@dataclass(frozen=True)
class _Task:
    clip: Annotation
    video: Path
    into: Path
    settings: CutSettings
    limits: MediaSettings

    @property
    def target(self) -> Path:
        return self.into / f"{self.clip.name}.mp4"

    @property
    def record(self) -> Path:
        return self.into / CUT_RECORDS / f"{self.clip.name}.json"

    @property
    def converted(self) -> Path:
        return converted_beside(self.target)

    def made_from(self) -> str:
        """All that decides the cut, as the text of its record."""
        stat = self.video.stat()
        source = {"file": self.video.name, "bytes": stat.st_size, "changed_ns": stat.st_mtime_ns}
        parts = {"clip": asdict(self.clip), "source": source, "settings": self.settings.fingerprint()}
        return json.dumps(parts, indent=1, sort_keys=True)


def cut_corpus(
    tables: Path, videos: Path, into: Path, settings: CorpusSettings | None = None, workers: int = 1
) -> CutSummary:
    """Cut every usable clip of the tables from the videos below `videos` into `into`, `workers` at a time.

    Each of the clips in the tables ends as `<into>/<clip>.mp4` or as a row; clips that the tables no longer name are
    removed. Memory does not grow with the length of the videos.
    """
    settings = settings or CorpusSettings()
    if not videos.is_dir():
        raise PrivFedTalkError(f"the folder {videos} does not exist", remedy="check the path given as --root")
    found = read_tables(tables)
    refused = list(found.rejects)
    if into.exists() and any(into.iterdir()) and not (into / CUT_RECORDS).is_dir():
        raise PrivFedTalkError(f"{into} holds files that were not cut", remedy="name a new or empty folder")
    sources = Sources(videos, settings)
    due: list[_Task] = []
    kept: set[str] = set()
    for clip in found.clips:
        video = sources.of(clip)
        if video is None:
            remedy = f"download it as {clip.group}_{clip.video}.mp4" + (
                f" (id {clip.video_id})" if clip.video_id else ""
            )
            refused.append(QuarantineRow(clip.name, STEP, "its source video is not in the folder", remedy))
            continue
        task = _Task(clip, video, into, settings.cuts, settings.media)
        if (
            task.target.exists()
            and task.record.exists()
            and task.record.read_text(encoding="utf-8") == task.made_from()
        ):
            kept.add(clip.name)
        else:
            due.append(task)
    (into / CUT_RECORDS).mkdir(parents=True, exist_ok=True)
    _remove_others(into, kept)
    # Long ones first, so that no worker is left alone with one at the end.
    due.sort(key=lambda task: (task.clip.start_seconds - task.clip.end_seconds, task.clip.name))
    failed = [row for row in track(_work(due, workers), STEP, total=len(due), unit="clips") if row is not None]
    return CutSummary(len(due) - len(failed), len(kept), [*refused, *failed], found.notes)


def nothing_cut(done: CutSummary, videos: Path) -> PrivFedTalkError:
    """The error for a folder from which no clip could be cut: the reason that most rows give, and its remedy."""
    reason, count = Counter(row.reason for row in done.refused).most_common(1)[0]
    first = next(row for row in done.refused if row.reason == reason)
    return PrivFedTalkError(
        f"no clip could be cut from {videos}; the reason for {count} of {len(done.refused)}: {reason}",
        remedy=f"for {first.file}: {first.remedy}",
    )


class Sources:
    """The videos of a folder by what they may be called: `<group>_<video>`, `<group>/<video>`, `<video>`, or an id of
    the publishing site alone or at the end of a title, as downloaders write it (`Title [id]`, `Title-id`)."""

    def __init__(self, folder: Path, settings: CorpusSettings) -> None:
        self._by_name: dict[str, Path] = {}
        self._by_id: dict[str, Path] = {}
        found = [path for path in walk(folder, settings.extensions) if holds(path.is_file)]  # no link to nowhere
        # Of two videos of one name, the first is the one that is most surely the published file.
        for path in sorted(found, key=lambda path: path.suffix.lower() not in USUAL):
            if path.suffix.lower() in SOUND:
                continue
            stem, parent = composed(path.stem), composed(path.parent.name)
            self._by_name.setdefault(stem.lower(), path)
            self._by_name.setdefault(f"{parent}/{stem}".lower(), path)
            named = _ID.search(stem)
            if named:
                self._by_id.setdefault(named[1], path)

    def of(self, clip: Annotation) -> Path | None:
        """The file of a clip's video, the most exact name first; None where there is none."""
        for name in (f"{clip.group}_{clip.video}", f"{clip.group}/{clip.video}", clip.video):
            if name.lower() in self._by_name:
                return self._by_name[name.lower()]
        return self._by_id.get(clip.video_id)


def box_in(clip: Annotation, width: int, height: int) -> tuple[int, int, int, int]:
    """The clip's square in a picture of another size than the annotated one: left, top, right, bottom, in pixels.

    Scaled from the listed height. Where that height is unknown, or so small that the square does not fit into it and
    was counted in another picture, the square is not scaled. A pixel may be lost to rounding; a square that reaches
    further out of the picture is an error.
    """
    x, y, box_width, box_height = clip.box
    scale = height / clip.height if clip.height >= y + box_height else 1.0
    left, top, right, bottom = (round(v * scale) for v in (x, y, x + box_width, y + box_height))
    slack = 1 + scale
    if right > width + slack or bottom > height + slack:
        raise CorruptFileError(
            f"its crop reaches to ({right}, {bottom}), beyond the video's {width} x {height} pixels",
            remedy="download the video at a larger size or in its original shape, or correct the tables",
        )
    return left, top, min(right, width), min(bottom, height)


def cut_clip(
    clip: Annotation, video: Path, target: Path, settings: CutSettings, limits: MediaSettings = DEFAULT_LIMITS
) -> Conversions:
    """Write one clip, 25 fps with 16 kHz sound, whole or not at all; return what was converted in its source."""
    source = open_video(video, limits)
    ends = source.facts.seconds + settings.shortfall_seconds
    if ends < clip.end_seconds:
        raise CorruptFileError(
            f"{video.name} ends at {source.facts.seconds:.1f} s, before the clip does ({clip.end_seconds:.0f} s)",
            remedy="download it again; if it is whole, the published video was shortened",
        )
    heard = open_sound(video, limits)
    sound = heard.span(clip.start_seconds, clip.end_seconds)
    frames = source.span(clip.start_seconds, clip.end_seconds)
    encode(_cropped(frames, clip, video, settings.size), sound if len(sound) else None, target, settings.crf)
    return source.conversions.with_those(heard.conversions)


def _cropped(frames: Iterator[Frame], clip: Annotation, video: Path, size: int) -> Iterator[Frame]:
    frame = None
    for frame in frames:
        left, top, right, bottom = box_in(clip, frame.shape[1], frame.shape[0])
        method = cv2.INTER_AREA if right - left > size else cv2.INTER_CUBIC
        yield cv2.resize(frame[top:bottom, left:right], (size, size), interpolation=method)
    if frame is None:
        raise CorruptFileError(
            f"{video.name} holds no picture from {clip.start_seconds:.0f} s on", remedy="download it again"
        )


def _work(tasks: list[_Task], workers: int) -> Iterator[QuarantineRow | None]:
    if workers <= 1 or len(tasks) <= 1:
        yield from map(_cut, tasks)
        return
    done: Done[_Task, QuarantineRow | None]
    for done in map_processes(_cut, tasks, min(workers, len(tasks)), _start_worker):
        if done.died:
            reason = "the process that cut it died (killed for memory, or a decoder crashed)"
            yield QuarantineRow(done.item.clip.name, STEP, reason, "use fewer workers, or re-encode the video")
        else:
            yield done.result


def _start_worker() -> None:
    cv2.setNumThreads(1)


def _cut(task: _Task) -> QuarantineRow | None:
    """Cut one clip, unless its source cannot be read; a full disk is no fault of the clip and stops the stage."""
    try:
        made_from = task.made_from()
        made = cut_clip(task.clip, task.video, task.target, task.settings, task.limits)
    except PrivFedTalkError as error:
        return QuarantineRow(task.clip.name, STEP, error.reason, error.remedy)
    save_conversions(made, task.converted)
    write_text(task.record, made_from)
    return None


def _remove_others(into: Path, kept: set[str]) -> None:
    """Remove what an earlier call left and this one will make anew or not at all; records go first."""
    for folder in (into / CUT_RECORDS, into):
        for path in folder.iterdir():
            if path.is_file() and path.stem not in kept:
                path.unlink()
