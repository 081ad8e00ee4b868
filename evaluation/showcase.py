"""What the page shows of the clips: truth and methods side by side with sound, and contact sheets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluation.arrays import Frames
from evaluation.figures import contact_sheet, labelled_grid
from evaluation.names import name_of
from evaluation.protocol import EvaluationClip, video_path
from evaluation.report.page import Sheet, VideoCard
from preparation.video import decode_all, encode

VIDEO_CRF = 25


def showcase(
    clips: Sequence[EvaluationClip],
    methods: Mapping[str, Path],
    folder: Path,
    said: Mapping[str, str] | None = None,
    sheets: int = 4,
) -> tuple[list[VideoCard], list[Sheet]]:
    """One video for each clip that every method has a video of, and a contact sheet for the first few.

    methods: name -> the folder `evaluate_method` wrote to, in the order of the panels; `said` tells a clip's
    words. The videos are written to `folder`.
    """
    cards: list[VideoCard] = []
    pictures: list[Sheet] = []
    for clip in clips:
        made = {name: video_path(home, clip.clip_id) for name, home in methods.items()}
        if not all(path.exists() for path in made.values()):
            continue
        panels = _panels(clip, made)
        path = folder / f"{clip.clip_id.replace('/', '_')}.mp4"
        encode(labelled_grid(panels), clip.audio, path, crf=VIDEO_CRF)
        who = "Client" if clip.role == "client" else "Stranger"
        words = (said or {}).get(clip.clip_id)
        cards.append(VideoCard(f"{who} {clip.client}", f"“{words}”" if words else clip.clip_id, path))
        if len(pictures) < sheets:
            caption = f"Clip {clip.clip_id}: each column is one moment of the clip, the reference is another clip's."
            pictures.append(Sheet(f"{who} {clip.client}", caption, contact_sheet(panels)))
    return cards, pictures


def _panels(clip: EvaluationClip, made: Mapping[str, Path]) -> list[tuple[str, Frames]]:
    """Reference, truth and methods, all as long as the clip."""
    still = np.repeat(clip.reference[None], len(clip.frames), axis=0)
    generated = [(name_of(name), decode_all(path)[: len(clip.frames)]) for name, path in made.items()]
    return [("Reference", still), ("Truth", clip.frames), *generated]
