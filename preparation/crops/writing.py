"""Write the files of one crop: its video, its tensors, and last its description."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from common.files import replacing, write_text
from preparation.corpora.clip import Clip
from preparation.crops import quality as filters
from preparation.crops.footage import Footage
from preparation.crops.pieces import remove_files
from preparation.crops.shots import Shot, Take
from preparation.crops.sync import Watch
from preparation.crops.sync import judge as judge_sync
from preparation.faces.alignment import Transforms, source_boxes, transform_points, warp
from preparation.faces.landmarks import Landmarks, mouth_box
from preparation.faces.truth_tracker import read_truth
from preparation.media.conversions import Conversions
from preparation.media.rates import FPS
from preparation.media.track.frames import Box, Frame
from preparation.media.writing import encode
from preparation.settings import PreparationSettings

if TYPE_CHECKING:
    from preparation.crops.active_speaker import ActiveSpeaker


@dataclass(frozen=True)
class Followed:
    """A clip that was read once: its face and sound, what was converted in the sound, and how the frames are read again
    for the crops."""

    clip: Clip
    corpus_root: Path
    footage: Footage
    audio: NDArray[np.int16]
    converted: Conversions
    scenes: list[slice] | None
    shots: list[Shot]


@dataclass(frozen=True)
class Draft:
    """A take that passed the first filters: smoothed landmarks [T, 68, 2], sound int16 [640 T], what was measured, and
    the transforms of its crop."""

    take: Take
    landmarks: Landmarks
    sound: NDArray[np.int16]
    quality: filters.Quality
    transforms: Transforms


def with_frames(drafts: list[Draft], footage: Footage, size: int) -> Iterator[tuple[Draft, Iterator[Frame]]]:
    """Each draft with its frames, which are read from the footage in one pass: use up each before the next."""
    if not drafts:
        return
    kept = slice(drafts[0].take.kept.start, drafts[-1].take.kept.stop)
    boxes: list[Box | None] = [None] * (kept.stop - kept.start)
    for draft in drafts:
        first = draft.take.kept.start - kept.start
        boxes[first : first + len(draft.landmarks)] = source_boxes(draft.transforms, size)
    frames = iter(footage.parts(kept, boxes))
    for draft in drafts:
        yield draft, islice(frames, len(draft.landmarks))


def write_crop(
    name: str,
    draft: Draft,
    frames: Iterator[Frame],
    followed: Followed,
    folder: Path,
    settings: PreparationSettings,
    speaker: ActiveSpeaker | None,
    described: dict[str, Any],
) -> filters.Verdict | None:
    """Write the crop of a take, or return the verdict of the filters that look at the crop itself."""
    clip, take, audio = followed.clip, draft.take, followed.audio
    sharpness: list[float] = []
    video = folder / f"{name}.mp4"
    watch = Watch(speaker, settings.sync, len(draft.landmarks)) if speaker is not None and len(audio) else None
    crops = _crops(frames, draft.transforms, settings.crops.size, sharpness)
    encode(
        crops if watch is None else watch.through(crops),
        draft.sound if len(audio) else None,
        video,
        crf=settings.crops.crf,
        made="a crop",
    )
    quality = filters.Quality(**{**asdict(draft.quality), "sharpness": float(np.median(sharpness))})
    verdict = filters.judge(quality, settings.quality, has_audio=len(audio) > 0)
    in_sync = watch.measure(draft.sound) if verdict is None and watch is not None else None
    if in_sync is not None:
        verdict = judge_sync(in_sync, settings.sync)
    if verdict is not None:
        remove_files(folder, name)
        return verdict

    # The description comes last: without it the crop does not count.
    placed = transform_points(draft.landmarks, draft.transforms)
    tensors: dict[str, NDArray[Any]] = {
        "landmarks": placed,
        "audio": draft.sound,
        "transforms": draft.transforms.astype(np.float32),
    }
    if clip.truth is not None:
        opening = read_truth(followed.corpus_root / clip.truth).get("mouth_opening")
        if opening is not None and len(opening) == len(followed.shots[take.shot].landmarks):
            tensors["mouth_opening"] = opening[take.kept]
    # Bytes first: the library's own writing would hide a full disk behind an error of its own.
    packed = save({name: np.ascontiguousarray(value) for name, value in tensors.items()})
    with replacing(folder / f"{name}.safetensors") as path:
        path.write_bytes(packed)
    described = {
        "clip_id": f"{clip.speaker}/{name}",
        "speaker": clip.speaker,
        "corpus": clip.corpus,
        "source": clip.path,
        **described,
        "first_frame": take.kept.start,
        "frames": len(draft.landmarks),
        "fps": FPS,
        "size": settings.crops.size,
        "mouth_box": mouth_box(placed, settings.crops.size),
        "most_faces": take.most_faces,
        "quality": asdict(quality),
        "conversions": followed.footage.video.conversions.with_those(followed.converted).made(),
    }
    if followed.scenes is not None:
        scenes = [[scene.start, scene.stop] for scene in followed.scenes]
        described |= {"scenes": scenes, "scene_kept": take.shot}
    if in_sync is not None:
        described["sync"] = asdict(in_sync)
    write_text(folder / f"{name}.json", json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False))
    return None


def _crops(frames: Iterable[Frame], transforms: Transforms, size: int, sharpness: list[float]) -> Iterator[Frame]:
    for frame, transform in zip(frames, transforms, strict=False):
        crop = warp(frame, transform, size)
        sharpness.append(filters.sharpness(crop))
        yield crop
