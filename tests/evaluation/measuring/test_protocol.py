"""The protocol on drawn clips: a perfect method, a still, noise, and a method that listens."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import PrivFedTalkError
from evaluation.measuring.protocol import (
    COLUMNS,
    copy_reference,
    evaluate_method,
    read_metrics,
    summarise,
    video_path,
)
from evaluation.metrics.arrays import Floats, Frames
from evaluation.metrics.clip import EvaluationClip, Swapped
from evaluation.metrics.interface import Figures, Networks
from evaluation.settings import EvaluationSettings
from preparation.faces.landmarks import LOWER_INNER_LIP, Landmarks
from preparation.media.sound import open_sound
from preparation.media.video import open_video

SIZE, FRAMES = 64, 10


def draw(openings: Floats, colour: int) -> Frames:
    """A plain face of one colour whose mouth is a dark box `opening` × 40 pixels high."""
    frames = np.full((len(openings), SIZE, SIZE, 3), (colour, 120, 250 - colour), np.uint8)
    for frame, opening in zip(frames, openings, strict=True):
        frame[40 : 40 + round(40 * float(opening)), 24:40] = 5
    return frames


class DarkRows:
    """Networks of the drawing: the mouth's height, and the face's colour (its corner pixel)."""

    def opening(self, frames: Frames) -> Floats:
        return (frames[:, 40:, 32, 1] < 60).sum(axis=1).astype(np.float32) / 40

    def embed(self, frames: Frames) -> Floats:
        corner = frames[:, 0, 0].astype(np.float32)
        return corner / np.linalg.norm(corner, axis=1, keepdims=True)


def make_clip(index: int, client: str) -> EvaluationClip:
    rng = np.random.default_rng(index)
    opening, other = rng.uniform(0, 0.5, (2, FRAMES)).astype(np.float32)
    landmarks = np.zeros((FRAMES, 68, 2), np.float32)
    landmarks[:, [36, 39]], landmarks[:, [42, 45]] = (22, 25), (42, 25)
    landmarks[:, 48:68] = rng.uniform((20, 38), (44, 60), (20, 2))
    colour = 40 + 30 * index
    return EvaluationClip(
        clip_id=f"{client}/{index:05d}",
        client=client,
        role="client",
        frames=draw(opening, colour) ^ rng.integers(0, 2, (FRAMES, SIZE, SIZE, 3), dtype=np.uint8),
        landmarks=landmarks,
        opening=opening,
        audio=(rng.normal(0, 2000, FRAMES * 640)).astype(np.int16),
        speech=opening[:, None, None].repeat(20, axis=1),
        reference=draw(np.array([0.25], np.float32), colour)[0],
        swapped=Swapped(other[:, None, None].repeat(20, axis=1), other, other, np.zeros(FRAMES * 640, np.int16)),
    )


@pytest.fixture(scope="module")
def clips() -> list[EvaluationClip]:
    return [make_clip(index, f"c{index // 2:04d}") for index in range(4)]


NETWORKS = Networks(opening=DarkRows(), identity=DarkRows())


def listener(clip: EvaluationClip, speech: Floats) -> Frames:
    """Opens the mouth as the speech says, on the reference's colour."""
    return draw(speech[:, 0, 0], int(clip.reference[0, 0, 0]))


def test_a_listener_follows_whatever_speech_it_gets(clips: list[EvaluationClip]) -> None:
    table = evaluate_method("listener", listener, clips, NETWORKS)
    assert list(table.columns) == COLUMNS
    found = summarise(table)["listener"]
    assert found["lip_correlation"].mean > 0.99
    assert found["swapped_new"].mean > 0.99
    assert abs(found["swapped_old"].mean) < 0.6
    assert found["opening_error"].mean < 0.02
    assert found["identity"].mean == pytest.approx(1)
    assert found["mean_frame_delta"].mean == pytest.approx(found["mean_frame_delta_truth"].mean, abs=0.01)
    assert (found["psnr"].n, found["psnr"].clients) == (4, 2)


def test_as_many_clips_of_a_client_are_generated_again_as_is_asked(clips: list[EvaluationClip]) -> None:
    calls: list[str] = []

    def counting(clip: EvaluationClip, speech: Floats) -> Frames:
        calls.append(clip.clip_id)
        return listener(clip, speech)

    found = summarise(evaluate_method("listener", counting, clips, NETWORKS))["listener"]
    assert found["swapped_new"].n == found["swapped_old"].n == 2  # the first clip of each client
    assert len(calls) == len(clips) + 2
    every = EvaluationSettings(swapped_clips_per_client=2)
    assert summarise(evaluate_method("listener", listener, clips, NETWORKS, every))["listener"]["swapped_new"].n == 4


class Order:
    """A meter whose figures depend on the clips before."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def measure(self, clip: EvaluationClip, frames: Frames) -> Figures:
        self.seen.append(clip.clip_id)
        return {"psnr": float(len(self.seen))}

    def conclude(self) -> dict[str, Figures]:
        return {}


def test_clips_side_by_side_give_the_same_rows_in_the_same_order(clips: list[EvaluationClip]) -> None:
    def slowest_first(clip: EvaluationClip, speech: Floats) -> Frames:
        time.sleep(0.05 * (clip is clips[0]))
        return listener(clip, speech)

    tables = []
    for workers in (1, 3):
        networks = replace(NETWORKS, meters=[Order()])
        tables.append(evaluate_method("listener", slowest_first, clips, networks, workers=workers))
    assert tables[0].equals(tables[1])
    assert summarise(tables[1])["listener"]["psnr"].mean == pytest.approx(2.5)


def test_a_still_has_no_lips(clips: list[EvaluationClip]) -> None:
    table = evaluate_method("copy_reference", copy_reference, clips, NETWORKS, speaks=False)
    found = summarise(table)["copy_reference"]
    assert found["lip_correlation"].mean == 0
    assert found["mean_frame_delta"].mean == 0
    assert found["identity"].mean == pytest.approx(1)
    assert found["flicker_ratio"].n == 0  # undefined, not zero
    assert "swapped_new" not in found
    assert "landmarker_rate" not in found  # no tracker: missing, never another number


def test_tracked_metrics_compare_two_runs_of_one_tracker(clips: list[EvaluationClip]) -> None:
    looked_at: list[int] = []

    def tracker(frames: Frames) -> tuple[Floats, list[bool]]:
        looked_at.append(len(frames))
        return clips[0].landmarks, [True] * (len(frames) - 1) + [False]

    networks = Networks(DarkRows(), DarkRows(), track=tracker)
    found = summarise(evaluate_method("listener", listener, clips, networks))["listener"]
    assert found["landmarker_rate"].mean == pytest.approx(0.9)
    assert found["landmarker_rate"].n == 2  # one clip for each client
    assert found["lip_landmark_distance"].mean == 0
    assert "landmark_jitter_ratio" not in found  # a hole in the track would count as a jump
    assert looked_at == [FRAMES] * 6  # of both clips: generated, true, and with another's speech


def test_files_hold_what_was_returned(clips: list[EvaluationClip], tmp_path: Path) -> None:
    table = evaluate_method("listener", listener, clips, NETWORKS, EvaluationSettings(), tmp_path)
    read = read_metrics(tmp_path / "metrics.parquet")
    assert read.equals(table)
    videos = sorted((tmp_path / "videos").iterdir())
    assert videos == [video_path(tmp_path, clips[0].clip_id), video_path(tmp_path, clips[2].clip_id)]
    assert open_video(videos[0]).all().shape == clips[0].frames.shape
    assert len(open_sound(videos[0]).in_step()) > 5000
    with pytest.raises(PrivFedTalkError, match="no metrics"):
        read_metrics(tmp_path / "absent.parquet")


def test_a_clip_without_known_opening_has_no_lip_rows(clips: list[EvaluationClip]) -> None:
    table = evaluate_method("listener", listener, [replace(clips[0], opening=None)], NETWORKS)
    metrics = set(table["metric"])
    assert "lip_correlation" not in metrics and "swapped_old" not in metrics
    assert {"swapped_new", "psnr", "identity"} <= metrics


def test_real_faces_are_read_off_landmarks_and_nothing_is_generated_that_nobody_reads(
    clips: list[EvaluationClip],
) -> None:
    spoken: list[Floats] = []

    def noting(clip: EvaluationClip, speech: Floats) -> Frames:
        spoken.append(speech)
        return listener(clip, speech)

    def tracker(frames: Frames) -> tuple[Landmarks, list[bool]]:
        """Lips as far apart as the dark box is high, between eyes 20 pixels apart; nothing seen in the second frame."""
        landmarks = np.zeros((len(frames), 68, 2), np.float32)
        landmarks[:, [36, 39]], landmarks[:, [42, 45]] = (22, 25), (42, 25)
        landmarks[:, LOWER_INNER_LIP, 1] = 20 * DarkRows().opening(frames)
        return landmarks, [place != 1 for place in range(len(frames))]

    donor = Swapped(clips[1].speech, None, clips[1].speech[:, 0, 0], clips[1].audio)
    real = replace(clips[0], opening=None, swapped=donor, landmarks=tracker(clips[0].frames)[0])
    evaluate_method("listener", noting, [real], NETWORKS)
    assert len(spoken) == 1
    table = evaluate_method("listener", noting, [real], replace(NETWORKS, track=tracker))
    assert len(spoken) == 3
    found = summarise(table)["listener"]
    assert found["tracked_correlation"].mean > 0.99 and found["tracked_opening_error"].mean < 0.02
    assert found["tracked_swapped_new"].mean > 0.99 and abs(found["tracked_swapped_old"].mean) < 0.7
    assert "lip_correlation" not in found and "swapped_new" not in found


def test_a_method_of_wrong_shape_is_named(clips: list[EvaluationClip]) -> None:
    with pytest.raises(PrivFedTalkError, match=r"short gave uint8 \(9,"):
        evaluate_method("short", lambda clip, speech: clip.frames[:-1], clips, NETWORKS)


def test_a_summary_never_mixes_roles(clips: list[EvaluationClip]) -> None:
    table = evaluate_method("listener", listener, clips[:2], NETWORKS)
    table.loc[0, "role"] = "unseen"
    with pytest.raises(AssertionError, match="select one role"):
        summarise(table)
