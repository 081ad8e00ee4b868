"""The smallest there is to measure: a figure, or nothing; no infinity, and no library's warning in the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from evaluation.experiments.paper.rows import interval
from evaluation.measuring.protocol import evaluate_method, measure_clip, summarise
from evaluation.measuring.significance import estimate
from evaluation.metrics.arrays import Floats, Frames
from evaluation.metrics.clip import EvaluationClip, Swapped
from evaluation.metrics.fidelity import mean_psnr, psnr, ssim
from evaluation.metrics.instruments import (
    SHORTEST_SYNC_FRAMES,
    LipSync,
    OpticalFlow,
    Population,
    VideoPopulation,
)
from evaluation.metrics.interface import Meter, Networks
from evaluation.metrics.networks.features import FeatureCache
from evaluation.metrics.networks.syncnet import SyncNet, SyncNetwork
from preparation.faces.landmarks import Landmarks

pytestmark = pytest.mark.filterwarnings("error")

SIZE = 32
"""The smallest crop that the settings allow."""


class Rulers:
    """Networks of known answers: an opening that grows, and one face for all."""

    def opening(self, frames: Frames) -> Floats:
        return np.linspace(0, 1, len(frames)).astype(np.float32)

    def embed(self, frames: Frames) -> Floats:
        return np.ones((len(frames), 2), np.float32)


class Corner:
    """A feature network of which everything is known."""

    fingerprint = "corner"

    def features(self, frames: Frames) -> Floats:
        if len(frames) == 16:  # FVD's window is one sample
            return frames[:, 0, 0].reshape(1, -1).astype(np.float32)
        return frames[:, :2, :2].reshape(len(frames), -1).astype(np.float32)


def tracked(frames: Frames) -> tuple[Landmarks, list[bool]]:
    return np.random.default_rng(1).uniform(5, 20, (len(frames), 68, 2)).astype(np.float32), [True] * len(frames)


def lost(frames: Frames) -> tuple[Landmarks, list[bool]]:
    return np.full((len(frames), 68, 2), np.nan, np.float32), [False] * len(frames)


def make_clip(
    frames: int, kind: str = "moving", person: str = "c", landmarks: Landmarks | None = None
) -> EvaluationClip:
    rng = np.random.default_rng([ord(person[0]), frames])
    pictures = rng.integers(0, 256, (frames, SIZE, SIZE, 3), dtype=np.uint8)
    if kind == "still":
        pictures = pictures[:1].repeat(frames, axis=0)
    opening = np.zeros(frames, np.float32) if kind == "silent" else rng.uniform(0, 0.4, frames).astype(np.float32)
    audio, speech = np.zeros(frames * 640, np.int16), np.zeros((frames, 1, 1), np.float32)
    if landmarks is None:
        landmarks = rng.uniform(8, 24, (frames, 68, 2)).astype(np.float32)
    return EvaluationClip(
        f"{person}/1", person, "client", pictures, landmarks, opening, audio, speech, pictures[0],
        swapped=Swapped(speech, opening[::-1].copy(), opening[::-1].copy(), audio),
    )  # fmt: skip


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 20])
@pytest.mark.parametrize("kind", ["moving", "still", "silent"])
@pytest.mark.parametrize("track", [tracked, lost])
def test_each_metric_of_a_short_clip_is_a_figure_or_undefined(
    frames: int, kind: str, track: Callable[[Frames], tuple[Landmarks, list[bool]]]
) -> None:
    clip = make_clip(frames, kind)
    # Every second frame of a still, or of a clip whose reference is one of its own, may be the truth itself.
    for made in (
        255 - clip.frames,
        np.where(np.arange(frames)[:, None, None, None] % 2, 255 - clip.frames, clip.frames),
    ):
        values = measure_clip(clip, made, Networks(Rulers(), Rulers(), track=track), tracked_frames=150)
        assert {"psnr", "ssim", "mouth_psnr", "identity", "flicker_ratio", "landmarker_rate"} <= set(values)
        assert not [name for name, value in values.items() if np.isinf(value)]
        undefined = {name for name, value in values.items() if np.isnan(value)}
        of_motion = {
            "mean_frame_delta",
            "flicker_ratio",
            "landmark_jitter_ratio",
            "lip_correlation",
            "tracked_correlation",
        }
        assert {name.removesuffix("_truth") for name in undefined} <= of_motion
        if frames == 20 and kind == "moving":
            assert undefined == set()


@pytest.mark.parametrize("place", [500.0, 16.0, 0.0, -50.0])
def test_a_mouth_without_a_surface_in_the_crop_is_not_measured(place: float) -> None:
    clip = make_clip(4, landmarks=np.full((4, 68, 2), place, np.float32))
    values = measure_clip(clip, 255 - clip.frames, Networks(Rulers(), Rulers()))
    assert np.isnan(values["mouth_ssim"]) and np.isfinite(values["psnr"])


def test_equal_frames_count_as_if_one_value_were_off_by_one() -> None:
    truth = make_clip(3).frames
    nearly = truth.copy()
    nearly[1, 0, 0, 0] ^= 1
    most = psnr(nearly, truth)[1]
    assert most == pytest.approx(10 * np.log10(255**2 * SIZE * SIZE * 3))
    still = truth[:1].repeat(3, axis=0)
    assert mean_psnr(nearly, truth) == mean_psnr(still, still) == mean_psnr(truth[:1], truth[:1]) == pytest.approx(most)
    assert np.isinf(mean_psnr(truth, truth))  # whoever made this was given the truth


def test_a_frame_smaller_than_the_window_has_no_structure() -> None:
    assert np.isnan(ssim(*[np.zeros((2, 10, 40, 3), np.uint8)] * 2)).all()
    assert ssim(*[np.zeros((2, 11, 11, 3), np.uint8)] * 2).tolist() == [1, 1]
    assert np.isnan(psnr(*[np.zeros((2, 0, 40, 3), np.uint8)] * 2)).all()


@pytest.mark.parametrize("people", ["a", "ab", "abc"])
@pytest.mark.parametrize("frames", [1, 15, 16, 20])
def test_people_with_one_short_clip_each_through_the_instruments(tmp_path: Path, people: str, frames: int) -> None:
    network, cache = Corner(), FeatureCache()
    instruments: list[Meter] = [OpticalFlow(), Population(network, cache, 4), VideoPopulation(network, cache)]
    networks = Networks(Rulers(), Rulers(), track=tracked, meters=instruments)
    clips = [make_clip(frames, person=person) for person in people]
    table = evaluate_method("inverse", lambda clip, _: 255 - clip.frames, clips, networks, folder=tmp_path)
    (summary,) = summarise(table).values()
    assert summary["psnr"].clients == len(people) and np.isfinite(summary["psnr"].mean)
    assert not [name for name, one in summary.items() if np.isinf(list(asdict(one).values())).any()]
    together = {name: one for each in instruments for name, one in each.conclude().get("client", {}).items()}
    assert json.loads(json.dumps(together, allow_nan=False)) == together
    assert ("fvd" in together) == (frames >= 16 and len(people) > 1)
    assert ("kid_centre_frame" in together) == (len(people) > 1)
    assert ("kid" in together) == (len(people) * frames > 1)


@pytest.mark.slow
def test_the_shortest_clip_that_syncnet_scores() -> None:
    syncnet = LipSync(SyncNet(SyncNetwork(), torch.device("cpu")), FeatureCache())
    clip = make_clip(SHORTEST_SYNC_FRAMES)
    figures = syncnet.measure(clip, clip.frames)
    assert np.isfinite(list(figures.values())).all() and figures["lse_c_gap"] == 0
    shorter = make_clip(SHORTEST_SYNC_FRAMES - 1)
    assert syncnet.measure(shorter, shorter.frames) == {}


def test_one_clip_has_a_value_and_no_interval() -> None:
    one = estimate(pd.Series([30.0]), pd.Series(["a"]), seed=0)
    assert (one.mean, one.n, one.clients) == (30.0, 1, 1)
    assert np.isnan([one.standard_error, one.low, one.high]).all()
    two = estimate(pd.Series([30.0, 31.0]), pd.Series(["a", "a"]), seed=0)
    assert two.low < two.mean < two.high


def test_an_interval_over_seeds_leaves_out_draws_in_which_nobody_was_measured() -> None:
    values, clients, seeds = pd.Series([1.0, 2.0, 3.0]), pd.Series(["a", "a", "b"]), pd.Series([0, 1, 1])
    low, high = interval(values, clients, seeds, seed=0)
    assert 1 <= low < high <= 3
