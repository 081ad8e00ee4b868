"""Make aligned crops with sound and landmarks from one clip, or a quarantine row; and read them back.

<folder>/<name>.mp4            the crop, H.264 + AAC, to look at and to encode
<folder>/<name>.safetensors    landmarks, audio, transforms, and mouth_opening where the truth is known
<folder>/<name>.json           source, settings, tracker, quality, the mouth's box over all frames; written last: a crop
                               without it does not count

A recording that is cut has one crop for each piece, `<name>@000` and so on; see `preparation.crops.pieces`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from common.errors import CorruptFileError, PrivFedTalkError, UnwritableError
from common.files import unwritable
from common.provenance import code_version
from preparation.corpora.clip import Clip, piece_name
from preparation.crops import quality as filters
from preparation.crops.cutting import CutPlan, loudness_levels
from preparation.crops.footage import open_footage
from preparation.crops.pieces import (
    Piece,
    RefusedPiece,
    forget_pieces,
    read_pieces,
    remove_files,
    times,
    write_pieces,
)
from preparation.crops.refusals import forget_refusal, remember_refusal, remembered_refusal
from preparation.crops.scenes import find_scenes
from preparation.crops.shots import Take, cut_takes, follow_shots, longest_take, measure_take, sound_of
from preparation.crops.writing import Draft, Followed, with_frames, write_crop
from preparation.faces.alignment import fit_transforms
from preparation.faces.landmarks import Landmarks
from preparation.faces.track import FaceTracker, smooth
from preparation.media.sound import fit_audio, open_sound
from preparation.media.track.frames import Frame
from preparation.media.video import open_video
from preparation.quarantine import PIECES, QuarantineRow
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
    """A clip that has a crop, or one for each of its pieces. `frames` are those of all its crops; `kept` is True where
    they are an earlier run's and still valid. `rows` name the pieces that were refused."""

    clip_id: str
    frames: int
    kept: bool
    crops: int = 1
    rows: tuple[QuarantineRow, ...] = ()


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
    plan: CutPlan | None = None,
) -> CropResult | QuarantineRow:
    """Decode, track, align, check and write one clip: as one crop, or with a `plan` as one crop for each of its pieces.

    Whatever is wrong with the clip becomes a row; a disk that cannot be written raises UnwritableError. `speaker` is
    the network that `settings.sync.check` needs.
    """
    if settings.sync.check and speaker is None:
        raise ValueError("sync.check needs the active-speaker network")
    before = from_before(clip, folder, settings, tracker.name, plan)
    if before is not None:
        return before
    try:
        forget_crop(folder, clip.name)
        watcher = speaker if settings.sync.check else None
        result = _prepare(clip, corpus_root, folder, settings, tracker, watcher, plan)
        if isinstance(result, QuarantineRow):
            verdict = filters.Verdict(result.reason, result.remedy)
            remember_refusal(folder, clip.name, verdict, _made_from(clip, settings, tracker.name, plan))
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
    plan: CutPlan | None,
) -> CropResult | QuarantineRow:
    # Sound first: it is cheap, and a clip without it needs no face.
    source = corpus_root / clip.path
    heard = open_sound(source, settings.corpus.media)
    audio = heard.in_step()
    footage = open_footage(clip, source, settings)

    # Follow the face within each scene, and choose what becomes a crop.
    look_for_cuts = settings.scenes.detect and clip.truth is None
    scenes = find_scenes(footage.pictures(), settings.scenes) if look_for_cuts else None
    shots = follow_shots(footage.watched(), scenes, clip, corpus_root, settings.faces, tracker, footage.seen)
    total = shots[-1].stop
    in_pieces = plan is not None and (total > plan.longest or len(shots) > 1 or bool(plan.borders))
    takes: list[Take] = []
    if plan is not None and in_pieces:
        takes = cut_takes(shots, loudness_levels(fit_audio(audio, total), total), plan)
    takes = takes or [longest_take(shots)]

    # Judge before the expensive part, and again once a crop's sharpness is known.
    followed = Followed(clip, corpus_root, footage, audio, heard.conversions, scenes, shots)
    made_from = _made_from(clip, settings, tracker.name, plan)
    drafts: list[Draft] = []
    refused: list[tuple[Take, filters.Verdict]] = []
    for take in takes:
        landmarks = smooth(take.landmarks, settings.faces.smoothing if tracker.trembles else 0.0)
        sound = sound_of(audio, take.kept)
        quality = measure_take(take, landmarks, sound)
        verdict = filters.judge(quality, settings.quality, has_audio=len(audio) > 0)
        if verdict is not None:
            refused.append((take, verdict))
        else:
            drafts.append(Draft(take, landmarks, sound, quality, fit_transforms(landmarks, settings.crops)))
    pieces: list[Piece] = []
    described = {**made_from, **({} if plan is None else {"recording": clip.clip_id})}
    for draft, frames in with_frames(drafts, footage, settings.crops.size):
        name = piece_name(clip.name, len(pieces)) if in_pieces else clip.name
        verdict = write_crop(name, draft, frames, followed, folder, settings, speaker, described)
        if verdict is not None:
            refused.append((draft.take, verdict))
        else:
            pieces.append(Piece(name, draft.take.kept.start, len(draft.landmarks)))
    if not pieces:
        return _refusal(clip, refused, len(shots), in_pieces)

    # The record comes last: without it no piece counts.
    refused_pieces = [
        RefusedPiece(f"{times(take.kept.start, take.kept.stop)}: {verdict.reason}", verdict.remedy)
        for take, verdict in sorted(refused, key=lambda pair: pair[0].kept.start)
    ]
    if in_pieces:
        write_pieces(folder, clip.name, pieces, refused_pieces, made_from)
    return _result(clip, pieces, refused_pieces, kept=False)


def _refusal(clip: Clip, refused: list[tuple[Take, filters.Verdict]], shots: int, in_pieces: bool) -> QuarantineRow:
    """The row of a clip without a crop: the verdict on its only take, or on the longest of its pieces."""
    _, verdict = max(refused, key=lambda pair: pair[0].kept.stop - pair[0].kept.start)
    best = ""
    if in_pieces and len({verdict.reason for _, verdict in refused}) > 1:
        best = f" in the longest of its {len(refused)} pieces"
    elif not in_pieces and shots > 1:
        best = f" in the best of its {shots} scenes"
    return QuarantineRow(clip.path, "quality", verdict.reason + best, verdict.remedy)


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
    """Remove a crop, or the crops of a recording's pieces, descriptions first, and the record that it was refused."""
    forget_refusal(folder, name)
    forget_pieces(folder, name)
    remove_files(folder, name)


def from_before(
    clip: Clip, folder: Path, settings: PreparationSettings, tracker_name: str, plan: CutPlan | None = None
) -> CropResult | QuarantineRow | None:
    """An earlier run's result for a clip, its crop or crops or a refusal, where the source, the code, the settings that
    decide it, the plan and the tracker are the same; else None."""
    made_from = _made_from(clip, settings, tracker_name, plan)
    record = read_pieces(folder, clip.name, made_from) if plan is not None else None
    if record is not None and all(has_crop(folder, piece.name) for piece in record.pieces):
        return _result(clip, record.pieces, record.refused, kept=True)
    try:
        stored = json.loads((folder / f"{clip.name}.json").read_text(encoding="utf-8"))
        if all(stored[name] == value for name, value in made_from.items()):
            return CropResult(clip.clip_id, int(stored["frames"]), kept=True)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    verdict = remembered_refusal(folder, clip.name, made_from)
    return None if verdict is None else QuarantineRow(clip.path, "quality", verdict.reason, verdict.remedy)


def _made_from(
    clip: Clip, settings: PreparationSettings, tracker_name: str, plan: CutPlan | None = None
) -> dict[str, str]:
    cut = {} if plan is None else {"cut": " ".join(map(str, astuple(plan)))}
    return {
        "source_sha256": clip.sha256,
        "settings": settings.crop_fingerprint(),
        "code": code_version(*MADE_BY, without=DECIDES_NOTHING),
        "tracker": tracker_name,
        **cut,
    }


def _result(clip: Clip, pieces: Sequence[Piece], refused: Sequence[RefusedPiece], kept: bool) -> CropResult:
    rows = tuple(QuarantineRow(clip.path, PIECES, each.reason, each.remedy) for each in refused)
    return CropResult(clip.clip_id, sum(piece.frames for piece in pieces), kept, len(pieces), rows)
