"""Instruments on drawn clips: what they add to a row, what they say of all clips, and what is missing by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.weights import registry as weights
from evaluation.measuring.instruments import check_instruments, open_instruments, openable
from evaluation.measuring.protocol import evaluate_method
from evaluation.metrics.arrays import Floats, Frames
from evaluation.metrics.clip import EvaluationClip, MeasuredRole
from evaluation.metrics.instruments import OpticalFlow, Population, Speaking, VideoPopulation
from evaluation.metrics.interface import Networks
from evaluation.metrics.motion import flow_error
from evaluation.metrics.networks.features import FeatureCache
from evaluation.metrics.sets.distribution import frechet_distance, kernel_distance
from evaluation.settings import EvaluationSettings
from preparation.crops.active_speaker import ActiveSpeaker
from preparation.media.sound import open_sound
from preparation.media.video import open_video

FRAMES = 20


class Corner:
    """A network of which everything is known; counts how often it is asked."""

    fingerprint = "corner"

    def __init__(self) -> None:
        self.seen = 0

    def features(self, frames: Frames) -> Floats:
        self.seen += len(frames)
        return frames[:, :2, :2].reshape(len(frames), -1).astype(np.float32)

    def window(self, frames: Frames) -> Floats:
        self.seen += len(frames)
        return frames[:, 0, 0].reshape(1, -1).astype(np.float32)


def make_clip(index: int, role: MeasuredRole = "client") -> EvaluationClip:
    rng = np.random.default_rng(index)
    frames = rng.integers(0, 256, (FRAMES, 32, 32, 3), dtype=np.uint8)
    landmarks = rng.uniform(8, 24, (FRAMES, 68, 2)).astype(np.float32)
    return EvaluationClip(
        f"c/{index}", "c", role, frames, landmarks, None, np.zeros(FRAMES * 640, np.int16),
        np.zeros((FRAMES, 1, 1), np.float32), frames[0],
    )  # fmt: skip


class Still:
    """Networks of the drawing that see nothing."""

    def opening(self, frames: Frames) -> Floats:
        return np.zeros(len(frames), np.float32)

    def embed(self, frames: Frames) -> Floats:
        return np.ones((len(frames), 2), np.float32)


def darker(clip: EvaluationClip, speech: Floats) -> Frames:
    return (clip.frames * 0.6).astype(np.uint8)


def test_what_an_instrument_finds_becomes_a_row_of_the_clip() -> None:
    clips = [make_clip(index) for index in range(3)]
    networks = Networks(opening=Still(), identity=Still(), meters=[OpticalFlow()])
    table = evaluate_method("darker", darker, clips, networks, EvaluationSettings(instrument_clips_per_client=2))
    rows = table[table["metric"] == "tof"]
    assert rows["clip_id"].tolist() == ["c/0", "c/1"]
    assert rows["value"].iloc[0] == flow_error(darker(clips[0], clips[0].speech), clips[0].frames)


def test_population_counts_every_clip_alike_and_the_centre_frames_apart(tmp_path: Path) -> None:
    network = Corner()
    clips = [make_clip(0), make_clip(1), make_clip(2), make_clip(3, "unseen")]
    for repetition in range(2):
        network.seen = 0
        population = Population(network, FeatureCache(tmp_path), 4)
        for clip in clips:
            assert population.measure(clip, darker(clip, clip.speech)) == {}
        # The truth's features are there already when the next method comes.
        assert network.seen == 4 * 5 * (2 - repetition)
    together = population.conclude()
    places = [2, 7, 12, 17]
    true = np.concatenate([network.features(clip.frames[places]) for clip in clips[:3]])
    made = np.concatenate([network.features(darker(clip, clip.speech)[places]) for clip in clips[:3]])
    assert together["client"]["kid"] == pytest.approx(kernel_distance(made, true).mean)
    assert together["client"]["fid"] == pytest.approx(frechet_distance(made, true))
    assert together["client"]["fid_frames"] == 12 and together["client"]["fid_centre_frame_frames"] == 3
    assert together["unseen"]["fid_frames"] == 4
    assert "fid_centre_frame" not in together["unseen"]  # one frame has no spread
    assert "fid_se" not in together["client"]  # one client cannot be left out


def test_video_population_takes_one_window_a_clip() -> None:
    network = Corner()
    network.features = network.window  # type: ignore[method-assign]
    population = VideoPopulation(network, FeatureCache())
    clips = [make_clip(0), make_clip(1), replace(make_clip(2), frames=make_clip(2).frames[:9])]
    for clip in clips:
        population.measure(clip, darker(clip, clip.speech))
    together = population.conclude()
    assert together["client"]["fvd_clips"] == 2 and together["client"]["fvd"] > 0


def test_what_is_missing_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    opened, missing = open_instruments([name for name in openable() if name != "i3d"], FeatureCache(), 4)
    assert [type(one) for one in opened] == [OpticalFlow]
    found = {name: one for one in missing for name in one.metrics}
    assert set(found) == {
        "Light-ASD score", "Light-ASD contrast", "LSE-D", "LSE-C", "AV offset", "LPIPS (alex)", "LPIPS (vgg)", "KID",
        "FID", "FVD",
    }  # fmt: skip
    for metric, name in (("LSE-C", "syncnet"), ("KID", "inception"), ("LPIPS (vgg)", "lpips_vgg")):
        assert f"privfedtalk weights fetch {name}" in found[metric].remedy
    assert found["FVD"].reason == "not asked for" and "evaluation.instruments" in found["FVD"].remedy


def test_an_instrument_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="unknown instrument 'vmaf'; choose of flow, light_asd"):
        check_instruments(["flow", "vmaf"])


@pytest.mark.slow
def test_a_second_judge_tells_own_sound_from_a_still(
    weights_dir: Path, clips_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a real clip: itself has its truth's scores, its still far lower ones."""
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    path = clips_dir / "lrs3/pretrain/C8zY0oAdQrs/00018.mp4"
    frames = open_video(path).all()[:75]
    clip = replace(make_clip(0), frames=frames, audio=open_sound(path).in_step()[: 75 * 640])
    speaking = Speaking(ActiveSpeaker.load(), FeatureCache(tmp_path))
    itself, still = speaking.measure(clip, frames), speaking.measure(clip, frames[:1].repeat(75, axis=0))
    assert itself["light_asd_score"] == pytest.approx(itself["light_asd_score_truth"], abs=1e-4)
    assert itself["light_asd_contrast"] == pytest.approx(itself["light_asd_contrast_truth"], abs=1e-4)
    assert still["light_asd_score"] < itself["light_asd_score"] - 1
    assert still["light_asd_contrast"] < itself["light_asd_contrast"]
