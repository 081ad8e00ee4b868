"""Makes the page's videos, truth and methods side by side with sound, and its contact sheets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from evaluation.catalogue import name_of
from evaluation.figures.charts import contact_sheet, labelled_grid
from evaluation.measuring.protocol import video_path
from evaluation.metrics.arrays import Frames
from evaluation.metrics.clip import EvaluationClip
from evaluation.report.page import Sheet, VideoCard
from preparation.media.previews import for_show, grey_cell
from preparation.media.video import open_video
from preparation.media.writing import encode

VIDEO_CRF = 25


def showcase(
    clips: Sequence[EvaluationClip],
    methods: Mapping[str, Path],
    folder: Path,
    said: Mapping[str, str] | None = None,
    sheets: int = 4,
) -> tuple[list[VideoCard], list[Sheet]]:
    """One video for each clip that every method has a video of, and contact sheets of the first `sheets` of these.

    `methods`: name -> the folder that `evaluate_method` wrote to, in the order of the panels. `said`: clip_id -> the
    clip's words. The videos are written to `folder`. Files and titles are numbered, because clips' names may be
    people's. A method's video that cannot be read becomes a grey panel.
    """
    cards: list[VideoCard] = []
    pictures: list[Sheet] = []
    numbers: dict[str, dict[str, int]] = defaultdict(dict)
    for clip in clips:
        made = {name: video_path(written, clip.clip_id) for name, written in methods.items()}
        if not all(path.exists() for path in made.values()):
            continue
        panels = _panels(clip, made)
        path = folder / f"{len(cards):03d}.mp4"
        encode(labelled_grid(panels), clip.audio, path, crf=VIDEO_CRF, made="a comparison")
        people = numbers[clip.role]
        title = f"{'Client' if clip.role == 'client' else 'Stranger'} {people.setdefault(clip.client, len(people) + 1)}"
        words = (said or {}).get(clip.clip_id)
        cards.append(VideoCard(title, f"“{words}”" if words else "A held-out clip", path))
        if len(pictures) < sheets:
            caption = "Each column is one moment of a held-out clip, the reference is of another moment."
            pictures.append(Sheet(title, caption, contact_sheet(panels)))
    return cards, pictures


def _panels(clip: EvaluationClip, made: Mapping[str, Path]) -> list[tuple[str, Frames]]:
    """The labelled panels: reference, truth and methods, all as long as the clip."""
    still = np.repeat(clip.reference[None], len(clip.frames), axis=0)
    generated = [(name_of(name), generated_frames(path, clip)) for name, path in made.items()]
    return [(name_of("reference"), still), (name_of("truth"), clip.frames), *generated]


def generated_frames(path: Path, clip: EvaluationClip) -> Frames:
    """A method's frames of a clip, uint8 [T, H, W, 3], as many as the clip has.

    A shorter video repeats its last frame; one that cannot be read is grey.
    """
    frames: list[Frames] = []
    with for_show(path.name):
        frames.extend(islice(open_video(path).frames(), len(clip.frames)))
    last = frames[-1] if frames else grey_cell(*clip.frames.shape[1:3])
    return np.stack([*frames, *[last] * (len(clip.frames) - len(frames))])
