from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from preparation.clients.roles import Client
from preparation.shards.references import RESERVED_GAP, SHORTEST, Place, Reference, choose_reference, look_of
from tests.preparation.conftest import MakeFace


def entry(**splits: list[str]) -> Client:
    return Client("client", "c", {"train": [], "validation": [], "test": [], **splits})


def chosen(
    target: str,
    client: Client,
    landmarks: dict[str, NDArray[np.float32]],
    places: dict[str, Place] | None = None,
    same_recording: bool = False,
) -> Reference | None:
    """The reference where each clip is a recording of its own, unless `places` say otherwise."""
    places = places or {clip: Place(clip, 0) for clip in landmarks}
    looks = {clip: look_of(points) for clip, points in landmarks.items()}
    return choose_reference(target, client, looks, places, same_recording)


@pytest.fixture
def landmarks(make_face: MakeFace) -> dict[str, NDArray[np.float32]]:
    return {f"c/{number}": make_face(40) for number in range(6)}


def test_training_never_looks_at_held_out_clips(landmarks: dict[str, NDArray[np.float32]]) -> None:
    client = entry(train=["c/0", "c/1", "c/2"], validation=["c/3"], test=["c/4"])
    for target in client.clips():
        reference = chosen(target, client, landmarks)
        assert reference is not None
        assert reference.clip_id in {"c/0", "c/1", "c/2"} - {target}
        assert reference.usable_frames == 40


def test_people_without_training_clips_look_at_their_other_clips(landmarks: dict[str, NDArray[np.float32]]) -> None:
    client = entry(test=["c/0", "c/1"])
    reference = chosen("c/0", client, landmarks)
    assert reference is not None and reference.clip_id == "c/1"


def test_a_lone_training_clip_lends_its_end(landmarks: dict[str, NDArray[np.float32]]) -> None:
    client = entry(train=["c/0"], test=["c/1"])
    reference = chosen("c/0", client, landmarks)
    assert reference is not None and reference.clip_id == "c/0"
    assert reference.frame - reference.usable_frames >= 4 == 40 // 10
    assert chosen("c/1", client, landmarks) is not None


def test_a_lone_short_clip_has_no_reference(make_face: MakeFace) -> None:
    assert chosen("c/0", entry(train=["c/0"]), {"c/0": make_face(8)}) is None


def test_clips_without_a_crop_are_no_candidates(landmarks: dict[str, NDArray[np.float32]]) -> None:
    client = entry(train=["c/0", "c/1", "c/absent"])
    reference = chosen("c/0", client, landmarks)
    assert reference is not None and reference.clip_id == "c/1"


def test_the_neutral_frame_is_chosen(make_face: MakeFace) -> None:
    """All mouths stand open but one; one shut mouth belongs to a turned head, one to closed eyes."""
    points = make_face(20)
    points[:, 60:68] += np.sign(points[:, 60:68] - points[:, 60:68].mean(1, keepdims=True)) * [0, 4]
    shut = make_face(20)
    for frame in (5, 9, 13):
        points[frame] = shut[frame]
    points[5, 30] += [8, 0]
    points[9, [37, 38, 43, 44], 1] = points[9, [41, 40, 47, 46], 1]
    client = entry(train=["c/0", "c/1"])
    reference = chosen("c/0", client, {"c/0": shut, "c/1": points})
    assert reference is not None and (reference.clip_id, reference.frame) == ("c/1", 13)


def test_of_a_recording_that_is_one_clip_another_moment_is_taken(landmarks: dict[str, NDArray[np.float32]]) -> None:
    client = entry(train=["c/0", "c/1", "c/2"], validation=["c/3"], test=["c/4"])
    for target in client.clips():
        reference = chosen(target, client, landmarks, same_recording=True)
        assert reference is not None and reference.clip_id == target
        assert 40 > reference.frame > reference.usable_frames >= 28


@pytest.mark.parametrize("frames", [12, 30, 100, 400])
def test_a_reference_is_never_among_the_frames_to_draw(make_face: MakeFace, frames: int) -> None:
    reference = chosen("c/0", entry(train=["c/0"]), {"c/0": make_face(frames)}, same_recording=True)
    if frames == 12:
        assert reference is not None and reference.usable_frames >= SHORTEST
    assert reference is not None
    assert reference.frame - reference.usable_frames >= min(RESERVED_GAP, frames // 10)


def test_pieces_of_the_recording_come_first_and_neighbouring_frames_do_not_count(make_face: MakeFace) -> None:
    """Two recordings of 40-frame pieces; in the piece after the target only frames from the gap on may be chosen."""
    names = ["c/a@000", "c/a@001", "c/a@002", "c/b"]
    landmarks = {name: make_face(40) for name in names}
    places = {name: Place("c/a", 40 * number) for number, name in enumerate(names[:3])} | {"c/b": Place("c/b", 0)}
    client = entry(train=names[:2] + names[3:], test=names[2:3])
    own = chosen("c/a@000", client, landmarks, places, same_recording=True)
    assert own is not None and own.clip_id == "c/a@001" and own.frame >= RESERVED_GAP and own.usable_frames == 40
    tested = chosen("c/a@002", client, landmarks, places, same_recording=True)
    assert tested is not None and tested.clip_id in names[:2]
    assert tested.clip_id == names[0] or tested.frame < 40 - RESERVED_GAP
    other_day = chosen("c/a@000", client, landmarks, places)
    assert other_day is not None and other_day.clip_id == "c/b"
