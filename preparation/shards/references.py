"""The choice of a reference frame of a person: shown to the generator, never among the frames it must generate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preparation.clients.roles import Client
from preparation.corpora.clip import recording_of
from preparation.faces.landmarks import Landmarks, eye_openness, mouth_opening, pose_proxy

RESERVED_SHARE = 0.2
"""Share of a clip that is set aside where its reference must come from the clip itself."""
RESERVED_GAP = 10
"""Frames between a sample and a reference from the same recording: 0.4 s, in which a face moves on. In a clip shorter
than 4 s that lends itself the reference, a tenth of the clip."""
SHORTEST = 8
"""Fewest frames that a sample must keep beside its reference."""

OPENING_UNIT, POSE_UNIT, LID_UNIT = 0.10, 0.08, 0.08
"""Equal distances from a neutral face: mouth opening and nose offset in inter-ocular distances, lids in eye widths."""


@dataclass(frozen=True)
class Reference:
    """A frame of a crop, and how many frames of the sample may then be used: all, unless the crop is the sample's."""

    clip_id: str
    frame: int
    usable_frames: int


@dataclass(frozen=True)
class Place:
    """Where a crop is from: the key of its recording, and its first frame there."""

    recording: str
    first_frame: int


Look = NDArray[np.float32]
"""Of each frame what makes a face neutral: mouth opening, pose [2] and openness of the eyes, float32 [T, 4]."""


def look_of(landmarks: Landmarks) -> Look:
    """Measure the frames of a crop, from its landmarks [T, 68, 2]."""
    columns = mouth_opening(landmarks)[:, None], pose_proxy(landmarks), eye_openness(landmarks)[:, None]
    return np.concatenate(columns, axis=1)


def choose_reference(
    target: str,
    client: Client,
    looks: Mapping[str, Look],
    places: Mapping[str, Place],
    same_recording: bool,
) -> Reference | None:
    """The reference for clip `target`, from the looks and the places of all of the client's crops.

    With `same_recording` it comes from other clips of the target's recording, at least `RESERVED_GAP` frames away; else
    from other recordings where there are any. Training clips come first, so that training never sees a held-out frame;
    where there are none (held-out public speakers, unseen people), other clips of the same split, and for a held-out
    clip any other. Where a recording is one clip, the clip's last fifth is set aside for the reference, with a gap
    before it; so it is for a person's only clip. None where that is too short. Where a client unites several people,
    only clips of the target's own person count.
    """
    person, split = client.person_of(target), client.split_of(target)
    looks = {clip: look for clip, look in looks.items() if client.person_of(clip) == person}
    pools = [client.splits["train"], client.splits[split]]
    if split != "train":
        # Held-out clips may use any clip as their reference: nothing is trained on them.
        pools.append(client.clips())

    def among(same: bool | None) -> Reference | None:
        """From the first pool that has frames of the target's recording (`same`), of others (not), or of any (None)."""
        for pool in pools:
            frames: dict[str, NDArray[np.int64]] = {}
            for clip in sorted(set(pool) & looks.keys() - {target}):
                if same is None or same == (places[clip].recording == places[target].recording):
                    frames[clip] = _far_frames(clip, target, looks, places)
            if any(len(some) for some in frames.values()):
                clip, frame = _most_neutral({clip: looks[clip][some] for clip, some in frames.items()})
                return Reference(clip, int(frames[clip][frame]), len(looks[target]))
        return None

    if same_recording:
        return among(same=True) or _reserved(target, looks[target]) or among(same=None)
    return among(same=False) or among(same=None) or _reserved(target, looks[target])


def _far_frames(clip: str, target: str, looks: Mapping[str, Look], places: Mapping[str, Place]) -> NDArray[np.int64]:
    """The frames of a clip that are no neighbours of the target's: all, unless both are pieces of one recording."""
    frames = np.arange(len(looks[clip]))
    if recording_of(clip) != recording_of(target):
        return frames
    at = places[clip].first_frame + frames
    start = places[target].first_frame
    stop = start + len(looks[target])
    return frames[(at < start - RESERVED_GAP) | (at >= stop + RESERVED_GAP)]


def _reserved(target: str, look: Look) -> Reference | None:
    """A frame of the clip's own last fifth; what is before it, but for a gap, stays the sample."""
    length = len(look)
    first = length - max(1, round(RESERVED_SHARE * length))
    gap = min(RESERVED_GAP, max(1, length // 10))
    if first - gap < SHORTEST:
        return None
    _, frame = _most_neutral({target: look[first:]})
    return Reference(target, first + frame, first - gap)


def _most_neutral(clips: Mapping[str, Look]) -> tuple[str, int]:
    """The frame with the mouth shut, the eyes open and the head near the person's mean pose.

    MuseTalk's ablation: references similar in pose and different in mouth improve FID and lip sync. The pose of the
    frames to generate is unknown, so the mean is the best guess; a shut mouth differs from all speech.
    """
    every = np.concatenate(list(clips.values()))
    opening, pose, lids = every[:, 0], every[:, 1:3], every[:, 3]
    far = (
        opening / OPENING_UNIT
        + np.linalg.norm(pose - pose.mean(0), axis=1) / POSE_UNIT
        + np.maximum(0, np.median(lids) - lids) / LID_UNIT
    )
    place = int(np.argmin(far))
    for clip, look in clips.items():
        if place < len(look):
            return clip, place
        place -= len(look)
    raise AssertionError("the place lies inside the concatenation")
