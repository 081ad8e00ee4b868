"""Clips from a small run on disk, the speech swap, and what the page shows of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from evaluation.measuring.clips import read_evaluation_clips, swap_speech
from evaluation.measuring.protocol import video_path
from evaluation.report.showcase import generated_frames, showcase
from evaluation.settings import EvaluationSettings
from preparation.clients.consent import record_rendered
from preparation.clients.roles import Client, Role, save_clients
from preparation.faces.landmarks import LOWER_INNER_LIP, mouth_opening
from preparation.media.sound import open_sound
from preparation.media.video import open_video
from preparation.media.writing import encode
from preparation.shards.store import Sample, write_shards
from tests.preparation.media.test_previews import with_broken_pictures

SIZE = 32


def add_person(run: RunFolder, name: str, role: Role, lengths: list[int]) -> Client:
    """A person with one prepared test clip of each length."""
    rng = np.random.default_rng(sum(name.encode()))
    samples = []
    for index, frames in enumerate(lengths):
        clip = f"{index:05d}"
        landmarks = rng.uniform(4, 28, (frames, 68, 2)).astype(np.float32)
        opening = rng.uniform(0, 0.4, frames).astype(np.float32)
        audio = rng.normal(0, 3000, frames * 640).astype(np.int16)
        crops = run.crops(name)
        encode(rng.integers(0, 255, (frames, SIZE, SIZE, 3), dtype=np.uint8), audio, crops / f"{clip}.mp4")
        tensors = {"landmarks": landmarks, "audio": audio, "transforms": np.zeros((frames, 2, 3), np.float32)}
        save_file(tensors, crops / f"{clip}.safetensors")
        (crops / f"{clip}.json").write_text(json.dumps({"tracker": "truth"}))
        samples.append(
            Sample(
                key=f"{name}--{clip}",
                client=name,
                clip_id=f"{name}/{clip}",
                split="test",
                latents=np.zeros((frames, 4, 4, 4), np.float16),
                speech=rng.normal(0, 1, (frames, 20, 80)).astype(np.float16),
                reference_latent=np.zeros((4, 4, 4), np.float16),
                reference=np.full((SIZE, SIZE, 3), 99, np.uint8),
                landmarks=landmarks,
                mouth_opening=opening,
            )
        )
    write_shards(run.client(name), samples)
    return Client(role, name, {"train": [], "validation": [], "test": [sample.clip_id for sample in samples]})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("run"))
    people = {
        "p0000": add_person(run, "p0000", "public", [5]),
        "c0000": add_person(run, "c0000", "client", [6, 6, 6]),
        "c0001": add_person(run, "c0001", "client", [5]),
        "u0000": add_person(run, "u0000", "unseen", [8]),
    }
    save_clients(people, run.clients_table)
    record_rendered(run)
    return run


def test_held_out_clips_of_clients_and_strangers(run: RunFolder) -> None:
    clips = read_evaluation_clips(run, EvaluationSettings(clips_per_client=2))
    assert [clip.clip_id for clip in clips] == ["c0000/00000", "c0000/00001", "c0001/00000", "u0000/00000"]
    assert [clip.role for clip in clips] == ["client"] * 3 + ["unseen"]
    first = clips[0]
    assert first.frames.shape == (6, SIZE, SIZE, 3) and first.speech.dtype == np.float32
    assert first.sample is not None and first.sample.clip_id == first.clip_id
    assert len(read_evaluation_clips(run, roles=["unseen"])) == 1


def test_a_run_without_test_clips_says_so(run: RunFolder, tmp_path: Path) -> None:
    empty = RunFolder(tmp_path)
    save_clients({"c0000": Client("client", "c0000", {"train": [], "validation": [], "test": []})}, empty.clients_table)
    record_rendered(empty)
    with pytest.raises(PrivFedTalkError, match="no test clip"):
        read_evaluation_clips(empty)


def test_speech_is_swapped_with_another_person_and_cut(run: RunFolder) -> None:
    clips = read_evaluation_clips(run)
    by_id = {clip.clip_id: clip for clip in clips}
    stranger = by_id["u0000/00000"]
    # Next in line and long enough: c0001's five frames cannot speak for six.
    swapped = by_id["c0000/00000"].swapped
    assert swapped is not None and stranger.opening is not None and swapped.opening is not None
    np.testing.assert_array_equal(swapped.speech, stranger.speech[:6])
    np.testing.assert_array_equal(swapped.opening, stranger.opening[:6])
    assert len(swapped.audio) == 6 * 640
    assert stranger.swapped is None  # nobody else speaks for eight frames
    assert swap_speech([stranger])[0].swapped is None


def test_the_showcase_needs_every_methods_video(run: RunFolder, tmp_path: Path) -> None:
    clips = read_evaluation_clips(run, EvaluationSettings(clips_per_client=1))
    homes = {"backbone": tmp_path / "backbone", "fedavg": tmp_path / "fedavg"}
    for home in homes.values():
        encode(clips[0].frames, clips[0].audio, video_path(home, clips[0].clip_id))
    encode(clips[1].frames, clips[1].audio, video_path(homes["fedavg"], clips[1].clip_id))
    cards, sheets = showcase(clips, homes, tmp_path / "shown", said={"c0000/00000": "the red boat"})
    assert [card.title for card in cards] == ["Client 1"] and len(sheets) == 1
    assert cards[0].caption == "“the red boat”"
    assert cards[0].path.name == "000.mp4"  # a clip's name may be a person's
    assert open_video(cards[0].path).all().shape[0] == 6
    assert len(open_sound(cards[0].path).in_step()) >= 6 * 640


@pytest.mark.parametrize("kind", ["broken", "short", "text"])
def test_a_video_that_cannot_be_read_is_a_grey_panel(run: RunFolder, tmp_path: Path, kind: str) -> None:
    clip = read_evaluation_clips(run, EvaluationSettings(clips_per_client=1))[0]
    homes = {"backbone": tmp_path / "backbone", "fedavg": tmp_path / "fedavg"}
    for home in homes.values():
        encode(clip.frames, clip.audio, video_path(home, clip.clip_id))
    odd = video_path(homes["fedavg"], clip.clip_id)
    if kind == "broken":
        with_broken_pictures(odd)
    elif kind == "short":
        encode(clip.frames[:2], None, odd)
    else:
        odd.write_text("la la")
    found = generated_frames(odd, clip)
    assert found.shape == clip.frames.shape
    assert kind == "short" or (np.median(found) == 128 and (found == found[0]).all())
    assert kind != "short" or (found[1:] == found[1]).all()
    cards, sheets = showcase([clip], homes, tmp_path / "shown")
    assert len(cards) == len(sheets) == 1 and open_video(cards[0].path).facts.frames == len(clip.frames)


def test_the_donor_is_the_stranger_whose_lips_are_least_alike(run: RunFolder) -> None:
    clip = read_evaluation_clips(run)[0]
    t = np.linspace(0, 2 * np.pi, len(clip.frames), dtype=np.float32)
    mine = replace(clip, opening=np.sin(t))
    alike = replace(clip, client="other", clip_id="other/alike", opening=np.sin(t) + np.float32(0.1) * np.cos(t))
    unlike = replace(clip, client="other", clip_id="other/unlike", opening=np.sin(2 * t))
    swapped = swap_speech([mine, alike, unlike])[0].swapped
    assert swapped is not None and swapped.opening is not None
    np.testing.assert_array_equal(swapped.opening, np.sin(2 * t))


def test_where_no_opening_is_known_donors_are_chosen_by_the_landmarks(run: RunFolder) -> None:
    clip = replace(read_evaluation_clips(run)[0], opening=None)
    t = np.linspace(0, 2 * np.pi, len(clip.frames), dtype=np.float32)
    alike = replace(clip, client="other", clip_id="other/alike")
    unlike = replace(clip, client="other", clip_id="other/unlike", landmarks=clip.landmarks.copy())
    unlike.landmarks[:, LOWER_INNER_LIP, 1] += 5 + 5 * np.sin(2 * t)
    swapped = swap_speech([clip, alike, unlike])[0].swapped
    assert swapped is not None and swapped.opening is None
    np.testing.assert_array_equal(swapped.seen_opening, mouth_opening(unlike.landmarks))
