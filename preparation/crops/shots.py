"""The face followed through a clip, shot by shot, and the stretches that samples are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preparation.corpora.clip import Clip
from preparation.crops.cutting import CutPlan, Levels, cut_recording
from preparation.crops.quality import Quality, face_pixels, loudness, median_roll, sound_share
from preparation.faces.landmarks import Landmarks
from preparation.faces.track import FaceTracker, Seen, Track, bridge_gaps, longest_segment
from preparation.media.rates import SAMPLES_PER_FRAME
from preparation.media.sound import fit_audio
from preparation.media.track.frames import Frame, Picture
from preparation.settings import FaceSettings


@dataclass(frozen=True)
class Shot:
    """A shot with the face's track. `start` is its first frame in the clip; landmarks [T, 68, 2] are those of the track
    with short gaps bridged; `segments` are the stretches with a face, counted from the shot's first frame."""

    number: int
    start: int
    track: Track
    landmarks: Landmarks
    segments: list[slice]

    @property
    def stop(self) -> int:
        return self.start + len(self.landmarks)


@dataclass(frozen=True)
class Take:
    """A stretch of one shot that becomes a crop: frames `kept` of the clip, their landmarks [T, 68, 2], the share of
    looked-at frames with a face, and the most faces in a frame."""

    shot: int
    kept: slice
    landmarks: Landmarks
    face_rate: float
    most_faces: int


def follow_shots(
    pictures: Iterable[Frame | Picture],
    scenes: list[slice] | None,
    clip: Clip,
    corpus_root: Path,
    settings: FaceSettings,
    tracker: FaceTracker,
    seen: Seen | None,
) -> list[Shot]:
    """Follow the face in each scene separately, because after a cut the face is elsewhere or another's; without scenes,
    in the whole clip."""
    stream = iter(pictures)
    shots: list[Shot] = []
    for number, scene in enumerate(scenes or [slice(0, None)]):
        length = None if scene.stop is None else scene.stop - scene.start
        track = tracker.track(islice(stream, length), clip, corpus_root, seen)
        filled, segments = bridge_gaps(track.landmarks, settings.longest_bridged_gap)
        shots.append(Shot(number, scene.start, track, filled, segments))
    return shots


def longest_take(shots: Sequence[Shot]) -> Take:
    """The longest stretch with a face, the first of equally long ones; `face_rate` and `most_faces` are those of its
    whole shot."""
    longest = [(shot, longest_segment(shot.segments)) for shot in shots]
    shot, segment = max(longest, key=lambda pair: pair[1].stop - pair[1].start)
    kept = slice(shot.start + segment.start, shot.start + segment.stop)
    faces = int(shot.track.faces.max(initial=0))
    return Take(shot.number, kept, shot.landmarks[segment], shot.track.face_rate, faces)


def cut_takes(shots: Sequence[Shot], levels: Levels, plan: CutPlan) -> list[Take]:
    """All stretches with a face, cut as planned, in order; `levels` [T] are those of the whole clip."""
    stretches = [slice(shot.start + each.start, shot.start + each.stop) for shot in shots for each in shot.segments]
    takes: list[Take] = []
    remaining = list(shots)
    for piece in cut_recording(stretches, levels, plan):
        while remaining[0].stop <= piece.start:
            remaining.pop(0)
        shot = remaining[0]
        inside = slice(piece.start - shot.start, piece.stop - shot.start)
        part = Track(shot.track.landmarks[inside], shot.track.faces[inside])
        takes.append(Take(shot.number, piece, shot.landmarks[inside], part.face_rate, int(part.faces.max(initial=0))))
    return takes


def sound_of(audio: NDArray[np.int16], kept: slice) -> NDArray[np.int16]:
    """The sound of frames `kept`, int16 [640 T], with silence where the sound has ended."""
    # The stretch alone is copied: with what precedes it, the pieces of a long recording would fill the memory.
    return fit_audio(audio[kept.start * SAMPLES_PER_FRAME :], kept.stop - kept.start)


def measure_take(take: Take, landmarks: Landmarks, sound: NDArray[np.int16]) -> Quality:
    """What the filters look at before a crop is made; `landmarks` [T, 68, 2] are smoothed."""
    return Quality(
        frames=len(landmarks),
        face_rate=take.face_rate,
        face_pixels=face_pixels(landmarks),
        roll_degrees=median_roll(landmarks),
        loudness=loudness(sound),
        sound_share=sound_share(sound),
    )
