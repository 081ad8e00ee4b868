"""The choice of a reference frame of a person: shown to the generator, never among the frames it must generate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from preparation.clients.roles import SPLITS, Client
from preparation.faces.landmarks import Landmarks, eye_openness, mouth_opening, pose_proxy

RESERVED_SHARE = 0.2
"""Share of a person's only clip that is set aside for the reference."""
RESERVED_GAP = 10
"""Frames between that part and the sample: 0.4 s, in which a face moves on."""

OPENING_UNIT, POSE_UNIT, LID_UNIT = 0.10, 0.08, 0.08
"""Equal distances from a neutral face: mouth opening and nose offset in inter-ocular distances, lids in eye widths."""


@dataclass(frozen=True)
class Reference:
    """A frame of a crop, and how many frames of the sample may then be used: all, unless the crop is the sample's."""

    clip_id: str
    frame: int
    usable_frames: int


def choose_reference(target: str, client: Client, landmarks: Mapping[str, Landmarks]) -> Reference | None:
    """The reference for clip `target`, from the landmarks [T, 68, 2] of all of the client's crops.

    It comes from the client's other training clips, so that training never sees a held-out frame; where there are none
    (held-out public speakers, unseen people), from other clips of the same split, and for a held-out clip from any
    other. Of a person's only clip the last fifth is set aside for the reference, with a gap before it; None where the
    clip is too short. Where a client unites several people, only clips of the target's own person count.
    """
    length = len(landmarks[target])
    person = client.person_of(target)
    landmarks = {clip: points for clip, points in landmarks.items() if client.person_of(clip) == person}
    split = client.split_of(target)
    for pool in (client.splits["train"], client.splits[split]):
        others = sorted(clip for clip in pool if clip != target and clip in landmarks)
        if others:
            clip, frame = _most_neutral({clip: landmarks[clip] for clip in others})
            return Reference(clip, frame, length)
    if split != "train":
        # Held-out clips may use any clip as their reference: nothing is trained on them.
        others = sorted(clip for name in SPLITS for clip in client.splits[name] if clip != target and clip in landmarks)
        if others:
            clip, frame = _most_neutral({clip: landmarks[clip] for clip in others})
            return Reference(clip, frame, length)
    first = length - max(1, round(RESERVED_SHARE * length))
    if first - RESERVED_GAP < 1:
        return None
    _, frame = _most_neutral({target: landmarks[target][first:]})
    return Reference(target, first + frame, first - RESERVED_GAP)


def _most_neutral(clips: Mapping[str, Landmarks]) -> tuple[str, int]:
    """The frame with the mouth shut, the eyes open and the head near the person's mean pose.

    MuseTalk's ablation: references similar in pose and different in mouth improve FID and lip sync. The pose of the
    frames to generate is unknown, so the mean is the best guess; a shut mouth differs from all speech.
    """
    every = np.concatenate(list(clips.values()))
    pose = pose_proxy(every)
    lids = eye_openness(every)
    far = (
        mouth_opening(every) / OPENING_UNIT
        + np.linalg.norm(pose - pose.mean(0), axis=1) / POSE_UNIT
        + np.maximum(0, np.median(lids) - lids) / LID_UNIT
    )
    place = int(np.argmin(far))
    for clip, points in clips.items():
        if place < len(points):
            return clip, place
        place -= len(points)
    raise AssertionError("the place lies inside the concatenation")
