"""Make one aligned crop with sound and landmarks from one clip, or a quarantine row; and read it back.

<folder>/<name>.mp4            the crop, H.264 + AAC, to look at and to encode
<folder>/<name>.safetensors    landmarks, audio, transforms, and mouth_opening where the truth is known
<folder>/<name>.json           source, settings, tracker, quality, the mouth's box over all frames; written last: a crop
                               without it does not count
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from common.errors import CorruptFileError, PrivFedTalkError, UnwritableError
from common.files import replacing, unwritable, write_text
from common.provenance import code_version
from preparation.corpora.clip import Clip
from preparation.crops import quality as filters
from preparation.crops.footage import Footage, open_footage
from preparation.crops.refusals import forget_refusal, remember_refusal, remembered_refusal
from preparation.crops.scenes import find_scenes
from preparation.crops.sync import Watch
from preparation.crops.sync import judge as judge_sync
from preparation.faces.alignment import Transforms, fit_transforms, source_boxes, transform_points, warp
from preparation.faces.landmarks import Landmarks, mouth_box
from preparation.faces.track import FaceTracker, Track, bridge_gaps, longest_segment, smooth
from preparation.faces.truth_tracker import read_truth
from preparation.media.rates import FPS
from preparation.media.sound import fit_audio, open_sound
from preparation.media.track.frames import Frame
from preparation.media.video import open_video
from preparation.media.writing import encode
from preparation.quarantine import QuarantineRow
from preparation.settings import PreparationSettings

if TYPE_CHECKING:
    from preparation.crops.active_speaker import ActiveSpeaker

MADE_BY = ("preparation.crops.crop", "preparation.crops.active_speaker", "preparation.faces.trackers")
"""The modules that make a crop, with all that they import: a crop is made again when any of these changes."""
DECIDES_NOTHING = (
    "common",
    "preparation.corpora",
    "preparation.crops.refusals",
    "preparation.quarantine",
    "preparation.settings",
)
"""Modules that these import and that change no crop: how files are written, listed and reported. The settings that
decide a crop count by their values."""


@dataclass(frozen=True)
class CropResult:
    """A clip that has a crop; `kept` is True where the crop of an earlier run is still valid."""

    clip_id: str
    frames: int
    kept: bool


@dataclass(frozen=True)
class Crop:
    """A prepared crop as read back. landmarks float32 [T, 68, 2] in crop pixels; audio int16 [640 T];
    transforms float32 [T, 2, 3] from source to crop; mouth_opening float32 [T] or None; `video` holds the T
    frames."""

    name: str
    video: Path
    landmarks: Landmarks
    audio: NDArray[np.int16]
    transforms: NDArray[np.float32]
    mouth_opening: NDArray[np.float32] | None
    metadata: dict[str, Any]

    def frames(self) -> Iterator[Frame]:
        """The crop's frames, uint8 [size, size, 3] each, streamed."""
        return open_video(self.video).frames()


def prepare_clip(
    clip: Clip,
    corpus_root: Path,
    folder: Path,
    settings: PreparationSettings,
    tracker: FaceTracker,
    speaker: ActiveSpeaker | None = None,
) -> CropResult | QuarantineRow:
    """Decode, track, align, check and write one clip. Whatever is wrong with the clip becomes a row; a disk that cannot
    be written raises UnwritableError. `speaker` is the network that `settings.sync.check` needs."""
    if settings.sync.check and speaker is None:
        raise ValueError("sync.check needs the active-speaker network")
    before = from_before(clip, folder, settings, tracker.name)
    if before is not None:
        return before
    try:
        forget_crop(folder, clip.name)
        watcher = speaker if settings.sync.check else None
        result = _prepare(clip, corpus_root, folder, settings, tracker, watcher)
        if isinstance(result, QuarantineRow):
            verdict = filters.Verdict(result.reason, result.remedy)
            remember_refusal(folder, clip.name, verdict, _made_from(clip, settings, tracker.name))
        return result
    except UnwritableError:
        raise
    except PrivFedTalkError as error:
        return QuarantineRow(clip.path, "crops", error.reason, error.remedy)
    except MemoryError:
        return QuarantineRow(clip.path, "crops", "not enough memory", "use fewer workers or a smaller clip")
    except OSError as error:
        if error.filename is not None and Path(str(error.filename)) == corpus_root / clip.path:
            return QuarantineRow(clip.path, "crops", f"the file cannot be read: {error.strerror}", "check the file")
        raise unwritable(folder, error) from error
    except Exception as error:
        # A clip may hold what no library foresaw, and must not end a night's work.
        return QuarantineRow(clip.path, "crops", f"{type(error).__name__}: {error}", "report the clip; it was left out")


def _prepare(
    clip: Clip,
    corpus_root: Path,
    folder: Path,
    settings: PreparationSettings,
    tracker: FaceTracker,
    speaker: ActiveSpeaker | None,
) -> CropResult | QuarantineRow:
    # Sound first: it is cheap, and a clip without it needs no face.
    source = corpus_root / clip.path
    heard = open_sound(source, settings.corpus.media)
    audio = heard.in_step()
    footage = open_footage(clip, source, settings)

    # Follow the face within each scene, bridge short gaps, keep the longest stretch that has one.
    look_for_cuts = settings.scenes.detect and clip.truth is None
    scenes = find_scenes(footage.pictures(), settings.scenes) if look_for_cuts else None
    shot = _longest_shot(clip, corpus_root, footage, scenes, settings, tracker)
    kept, track = shot.kept, shot.track
    landmarks = smooth(shot.landmarks, settings.faces.smoothing if tracker.trembles else 0.0)
    sound = fit_audio(audio, kept.stop)[kept.start * 640 :]

    # Judge before the expensive part, and again once the crop's sharpness is known.
    measured = filters.Quality(
        frames=len(landmarks),
        face_rate=track.face_rate,
        face_pixels=filters.face_pixels(landmarks),
        roll_degrees=filters.median_roll(landmarks),
        loudness=filters.loudness(sound),
        sound_share=filters.sound_share(sound),
    )
    verdict = filters.judge(measured, settings.quality, has_audio=len(audio) > 0)
    if verdict is not None:
        best = f" in the best of its {len(scenes)} scenes" if scenes and len(scenes) > 1 else ""
        return QuarantineRow(clip.path, "quality", verdict.reason + best, verdict.remedy)
    transforms = fit_transforms(landmarks, settings.crops)

    sharpness: list[float] = []
    video = folder / f"{clip.name}.mp4"
    watch = Watch(speaker, settings.sync, len(landmarks)) if speaker is not None and len(audio) else None
    parts = footage.parts(kept, source_boxes(transforms, settings.crops.size))
    crops = _crops(parts, transforms, settings.crops.size, sharpness)
    encode(
        crops if watch is None else watch.through(crops),
        sound if len(audio) else None,
        video,
        crf=settings.crops.crf,
        made="a crop",
    )
    measured = filters.Quality(**{**asdict(measured), "sharpness": float(np.median(sharpness))})
    verdict = filters.judge(measured, settings.quality, has_audio=len(audio) > 0)
    in_sync = watch.measure(sound) if verdict is None and watch is not None else None
    if in_sync is not None:
        verdict = judge_sync(in_sync, settings.sync)
    if verdict is not None:
        forget_crop(folder, clip.name)
        return QuarantineRow(clip.path, "quality", verdict.reason, verdict.remedy)

    # The description comes last: without it the crop does not count.
    placed = transform_points(landmarks, transforms)
    tensors: dict[str, NDArray[Any]] = {
        "landmarks": placed,
        "audio": sound,
        "transforms": transforms.astype(np.float32),
    }
    if clip.truth is not None:
        opening = read_truth(corpus_root / clip.truth).get("mouth_opening")
        if opening is not None and len(opening) == len(track.landmarks):
            tensors["mouth_opening"] = opening[kept]
    # Bytes first: the library's own writing would hide a full disk behind an error of its own.
    packed = save({name: np.ascontiguousarray(value) for name, value in tensors.items()})
    with replacing(folder / f"{clip.name}.safetensors") as path:
        path.write_bytes(packed)
    described = {
        "clip_id": clip.clip_id,
        "speaker": clip.speaker,
        "corpus": clip.corpus,
        "source": clip.path,
        **_made_from(clip, settings, tracker.name),
        "first_frame": kept.start,
        "frames": len(landmarks),
        "fps": FPS,
        "size": settings.crops.size,
        "mouth_box": mouth_box(placed, settings.crops.size),
        "most_faces": int(track.faces.max(initial=0)),
        "quality": asdict(measured),
        "conversions": footage.video.conversions.with_those(heard.conversions).made(),
    }
    if scenes is not None:
        described |= {"scenes": [[scene.start, scene.stop] for scene in scenes], "scene_kept": shot.scene}
    if in_sync is not None:
        described["sync"] = asdict(in_sync)
    write_text(folder / f"{clip.name}.json", json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False))
    return CropResult(clip.clip_id, len(landmarks), kept=False)


@dataclass(frozen=True)
class _Shot:
    """The longest stretch of one scene that has a face: `kept` is its slice of the clip's frames, landmarks [T, 68, 2]
    are those of the stretch, `track` is that of the whole scene."""

    scene: int
    kept: slice
    landmarks: Landmarks
    track: Track


def _longest_shot(
    clip: Clip,
    corpus_root: Path,
    footage: Footage,
    scenes: list[slice] | None,
    settings: PreparationSettings,
    tracker: FaceTracker,
) -> _Shot:
    """Follow the face in each scene separately, because after a cut the face is elsewhere or another's; without scenes,
    in the whole clip. Of equally long stretches the first is kept."""
    stream = iter(footage.watched())
    shots: list[_Shot] = []
    for number, scene in enumerate(scenes or [slice(0, None)]):
        length = None if scene.stop is None else scene.stop - scene.start
        track = tracker.track(islice(stream, length), clip, corpus_root, footage.seen)
        filled, segments = bridge_gaps(track.landmarks, settings.faces.longest_bridged_gap)
        longest = longest_segment(segments)
        kept = slice(scene.start + longest.start, scene.start + longest.stop)
        shots.append(_Shot(number, kept, filled[longest], track))
    return max(shots, key=lambda shot: len(shot.landmarks))


def load_crop(folder: Path, name: str) -> Crop:
    """Read a prepared crop; its frames are streamed by `Crop.frames`."""
    try:
        metadata = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / f"{name}.safetensors")
        return Crop(
            name=name,
            video=folder / f"{name}.mp4",
            landmarks=tensors["landmarks"],
            audio=tensors["audio"],
            transforms=tensors["transforms"],
            mouth_opening=tensors.get("mouth_opening"),
            metadata=metadata,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CorruptFileError(
            f"the crop {name} in {folder} cannot be read: {error}",
            remedy="delete its .json and run the crops step again",
        ) from error


def has_crop(folder: Path, name: str) -> bool:
    return (folder / f"{name}.json").exists()


def forget_crop(folder: Path, name: str) -> None:
    """Remove a crop, its description first, and the record that the clip was refused."""
    forget_refusal(folder, name)
    for suffix in (".json", ".safetensors", ".mp4"):
        (folder / f"{name}{suffix}").unlink(missing_ok=True)


def from_before(
    clip: Clip, folder: Path, settings: PreparationSettings, tracker_name: str
) -> CropResult | QuarantineRow | None:
    """An earlier run's result for a clip, a crop or a refusal, where the source, the code, the settings that decide it
    and the tracker are the same; else None."""
    made_from = _made_from(clip, settings, tracker_name)
    try:
        stored = json.loads((folder / f"{clip.name}.json").read_text(encoding="utf-8"))
        if all(stored[name] == value for name, value in made_from.items()):
            return CropResult(clip.clip_id, int(stored["frames"]), kept=True)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    verdict = remembered_refusal(folder, clip.name, made_from)
    return None if verdict is None else QuarantineRow(clip.path, "quality", verdict.reason, verdict.remedy)


def _made_from(clip: Clip, settings: PreparationSettings, tracker_name: str) -> dict[str, str]:
    return {
        "source_sha256": clip.sha256,
        "settings": settings.crop_fingerprint(),
        "code": code_version(*MADE_BY, without=DECIDES_NOTHING),
        "tracker": tracker_name,
    }


def _crops(frames: Iterable[Frame], transforms: Transforms, size: int, sharpness: list[float]) -> Iterator[Frame]:
    for frame, transform in zip(frames, transforms, strict=False):
        crop = warp(frame, transform, size)
        sharpness.append(filters.sharpness(crop))
        yield crop
