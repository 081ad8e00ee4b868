"""Render a whole corpus in LRS3 layout, in parallel; an interrupted call is continued by the next one.

`pretrain` holds the public speakers, `trainval` the clients. `test` and `volunteers` hold people of the clients'
population who never train: unseen people, and volunteers, on whom rounds are compared.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from common.errors import PrivFedTalkError
from common.files import sweep
from common.progress import track
from common.workers import map_processes
from preparation.corpora.studio.clip import film, invite
from preparation.corpora.studio.motion import FPS
from preparation.corpora.studio.settings import StudioSettings
from preparation.corpora.studio.writer import TRUTH_SUFFIX, encode_clip, sidecar_text, write_clip, write_whole

SUBSETS = {"public": "pretrain", "client": "trainval", "unseen": "test", "volunteer": "volunteers"}
SETTINGS_NAME = "studio.json"
_COUNTS = (
    *("public_speakers", "public_clips", "clients", "client_clips", "unseen", "unseen_clips"),
    *("volunteers", "volunteer_clips"),
)


@dataclass(frozen=True)
class CorpusSummary:
    """What a rendered corpus holds, and what this call added to it."""

    speakers: int
    clips: int
    frames: int
    seconds: float
    bytes: int
    rendered: int
    wall_seconds: float


@dataclass(frozen=True)
class Task:
    """One speaker's clips: the unit of work, so that a speaker is sculpted once."""

    kind: str
    number: int
    clips: int

    @property
    def speaker(self) -> str:
        return f"{self.kind[0]}{self.number:04d}"

    def folder(self, root: Path) -> Path:
        return root / SUBSETS[self.kind] / self.speaker


def corpus_tasks(settings: StudioSettings) -> list[Task]:
    """All speakers, clients first: they have the most clips, so that no worker is left alone at the end."""
    tasks = [Task("client", number, settings.client_clips) for number in range(settings.clients)]
    tasks += [Task("unseen", number, settings.unseen_clips) for number in range(settings.unseen)]
    tasks += [Task("volunteer", number, settings.volunteer_clips) for number in range(settings.volunteers)]
    return tasks + [Task("public", number, settings.public_clips) for number in range(settings.public_speakers)]


def render_corpus(root: Path, settings: StudioSettings, workers: int) -> CorpusSummary:
    """Render what is missing below `root` with `workers` processes; 1 renders in this process.

    The corpus's settings lie beside it in `studio.json`: a folder made with others is refused, not mixed.
    """
    started = time.monotonic()
    _claim(root, settings)
    tasks = corpus_tasks(settings)
    total = sum(task.clips for task in tasks)
    rendered = sum(track(_work(root, settings, tasks, workers), "rendering", total=total, unit="clips"))
    sizes = [_video(task, root, clip).stat().st_size for task in tasks for clip in range(task.clips)]
    return CorpusSummary(
        speakers=len(tasks),
        clips=total,
        frames=total * round(settings.seconds * FPS),
        seconds=total * settings.seconds,
        bytes=sum(sizes),
        rendered=rendered,
        wall_seconds=time.monotonic() - started,
    )


def _claim(root: Path, settings: StudioSettings) -> None:
    """Write the settings that decide the corpus's look; the numbers of speakers and clips may grow later.

    Raises PrivFedTalkError where the folder holds a corpus of another look.
    """
    path = root / SETTINGS_NAME
    if path.exists() and _stored_look(path) != _look(settings):
        raise PrivFedTalkError(
            f"{root} holds a corpus rendered with other settings (see {path})",
            remedy="choose another folder, or delete this one to render it anew",
        )
    write_whole(path, json.dumps(_look(settings), indent=1, sort_keys=True).encode())


def _stored_look(path: Path) -> dict[str, Any] | None:
    try:
        return _look(StudioSettings(**json.loads(path.read_text(encoding="utf-8"))))
    except ValueError:  # not JSON, or settings that this version does not know
        return None


def _look(settings: StudioSettings) -> dict[str, Any]:
    """The settings that one corpus must share; a setting that an older corpus's file lacks has its default."""
    return settings.model_dump(mode="json", exclude=set(_COUNTS))


def _work(root: Path, settings: StudioSettings, tasks: list[Task], workers: int) -> Iterator[int]:
    """For every clip 1 where it was rendered now and 0 where it was there already."""
    if workers <= 1:
        for task in tasks:
            yield from render_speaker(root, settings, task)
        return
    for done in map_processes(partial(_render_all, root, settings), tasks, workers, _one_thread):
        if done.result is None:
            raise PrivFedTalkError(
                f"the process that rendered {done.item.speaker} died, twice (killed for memory?)",
                remedy="use fewer workers; the clips that are finished are kept",
            )
        yield from done.result


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _render_all(root: Path, settings: StudioSettings, task: Task) -> list[int]:
    return list(render_speaker(root, settings, task))


def render_speaker(root: Path, settings: StudioSettings, task: Task) -> Iterable[int]:
    """Render the missing clips of one speaker; yields 1 or 0 a clip as in `_work`."""
    sweep(task.folder(root))
    missing = [clip for clip in range(task.clips) if not _complete(_video(task, root, clip))]
    yield from [0] * (task.clips - len(missing))
    if not missing:
        return
    speaker = invite(task.kind, task.number, settings)
    for number in missing:
        clip = film(speaker, number, settings)
        truth = clip.truth()
        encoded = encode_clip(clip.frames(), clip.sound, settings.size, settings.crf)
        sidecar = sidecar_text(task.speaker, clip.utterance, truth["landmarks"], settings.size)
        write_clip(_video(task, root, number), encoded, sidecar, truth)
        yield 1


def _video(task: Task, root: Path, clip: int) -> Path:
    return task.folder(root) / f"{clip + 1:05d}.mp4"


def _complete(video: Path) -> bool:
    return all(path.exists() for path in (video, video.with_suffix(".txt"), video.with_suffix(TRUTH_SUFFIX)))
