from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from preparation.clients.roles import Client
from preparation.shards.references import RESERVED_GAP, choose_reference
from tests.preparation.conftest import MakeFace


def entry(**splits: list[str]) -> Client:
    return Client("client", "c", {"train": [], "validation": [], "test": [], **splits})


@pytest.fixture
def landmarks(make_face: MakeFace) -> dict[str, NDArray[np.float32]]:
    return {f"c/{number}": make_face(40) for number in range(6)}


def test_training_never_looks_at_held_out_clips(landmarks: dict[str, NDArray[np.float32]]) -> None:
    client = entry(train=["c/0", "c/1", "c/2"], validation=["c/3"], test=["c/4"])
    for target in client.clips():
        reference = choose_reference(target, client, landmarks)
        assert reference is not None
        assert reference.clip_id in {"c/0", "c/1", "c/2"} - {target}
        assert reference.usable_frames == 40


def test_people_without_training_clips_look_at_their_other_clips(landmarks: dict[str, NDArray[np.float32]]) -> None:
    client = entry(test=["c/0", "c/1"])
    reference = choose_reference("c/0", client, landmarks)
    assert reference is not None and reference.clip_id == "c/1"


def test_a_lone_training_clip_lends_its_end(landmarks: dict[str, NDArray[np.float32]]) -> None:
    client = entry(train=["c/0"], test=["c/1"])
    reference = choose_reference("c/0", client, landmarks)
    assert reference is not None and reference.clip_id == "c/0"
    assert reference.frame - reference.usable_frames >= RESERVED_GAP
    assert choose_reference("c/1", client, landmarks) is not None


def test_a_lone_short_clip_has_no_reference(make_face: MakeFace) -> None:
    assert choose_reference("c/0", entry(train=["c/0"]), {"c/0": make_face(8)}) is None


def test_clips_without_a_crop_are_no_candidates(landmarks: dict[str, NDArray[np.float32]]) -> None:
    client = entry(train=["c/0", "c/1", "c/absent"])
    reference = choose_reference("c/0", client, landmarks)
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
    reference = choose_reference("c/0", client, {"c/0": shut, "c/1": points})
    assert reference is not None and (reference.clip_id, reference.frame) == ("c/1", 13)
