"""Rulers learn from drawn faces and must measure faces they never saw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from common.errors import CorruptFileError, PrivFedTalkError
from training.model.frozen.augmentation import sample_region
from training.model.frozen.rulers import (
    Floats,
    Frames,
    IdentityRuler,
    IdentityRulerSettings,
    OpeningRuler,
    OpeningRulerSettings,
    train_identity_ruler,
    train_opening_ruler,
)

SIZE = 64
QUICK_OPENING = OpeningRulerSettings(steps=120, batch=32)
QUICK_IDENTITY = IdentityRulerSettings(steps=80, batch=32)


def draw_face(person: int, opening: float, rng: np.random.Generator) -> Frames:
    """A disc with two eyes and an elliptic mouth whose height is `opening` inter-ocular distances."""
    look = np.random.default_rng(person)
    background, skin, eyes = look.integers(20, 235, (3, 3)).tolist()
    frame = np.full((SIZE, SIZE, 3), background, np.uint8)
    light = 1 + 0.1 * (2 * rng.random() - 1)
    ellipse = (SIZE // 2, SIZE // 2), (int(look.integers(18, 28)), int(look.integers(24, 31)))
    cv2.ellipse(frame, *ellipse, 0, 0, 360, skin, -1)
    for x in (0.34, 0.66):
        cv2.circle(frame, (int(x * SIZE), int(0.4 * SIZE)), int(look.integers(2, 5)), eyes, -1)
    height = opening * 0.32 * SIZE / 2
    centre = (SIZE // 2 * 16, int(0.75 * SIZE * 16))
    cv2.ellipse(frame, centre, (int(0.13 * SIZE * 16), int(height * 16)), 0, 0, 360, (30, 5, 5), -1, shift=4)
    return (frame * light).clip(0, 255).astype(np.uint8)


def draw_people(people: range, each: int, seed: int) -> tuple[Frames, Floats, list[str]]:
    rng = np.random.default_rng(seed)
    openings = rng.uniform(0, 0.5, len(people) * each).astype(np.float32)
    labels = [f"p{person:04d}" for person in people for _ in range(each)]
    frames = [draw_face(int(label[1:]), value, rng) for label, value in zip(labels, openings, strict=True)]
    return np.stack(frames), openings, labels


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """These pictures are too small to share: on a busy machine two threads mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def opening_ruler() -> OpeningRuler:
    frames, openings, _ = draw_people(range(30), 10, seed=0)
    return train_opening_ruler(frames, openings, QUICK_OPENING, seed=1)


@pytest.fixture(scope="module")
def identity_ruler() -> IdentityRuler:
    frames, _, labels = draw_people(range(30), 10, seed=0)
    return train_identity_ruler(frames, labels, QUICK_IDENTITY, seed=1)


@pytest.mark.slow(minutes=0.2)
def test_opening_of_unseen_people(opening_ruler: OpeningRuler) -> None:
    frames, openings, _ = draw_people(range(100, 110), 10, seed=5)
    measured = opening_ruler.opening(frames)
    assert measured.dtype == np.float32 and measured.shape == (100,)
    assert np.corrcoef(measured, openings)[0, 1] > 0.9
    assert np.abs(measured - openings).mean() < 0.08


@pytest.mark.slow(minutes=0.2)
def test_identity_of_unseen_people(identity_ruler: IdentityRuler) -> None:
    frames, _, labels = draw_people(range(100, 110), 6, seed=5)
    embeddings = identity_ruler.embed(frames)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    cosine = embeddings @ embeddings.T
    same = np.equal.outer(labels, labels)
    assert cosine[same].mean() > 0.7
    assert abs(cosine[~same].mean()) < 0.25


@pytest.mark.slow(minutes=0.2)
def test_save_and_load_give_the_same_frozen_network(
    opening_ruler: OpeningRuler, identity_ruler: IdentityRuler, tmp_path: Path
) -> None:
    frames, _, _ = draw_people(range(3), 2, seed=2)
    opening_ruler.save(tmp_path / "opening")
    identity_ruler.save(tmp_path / "identity")
    loaded = OpeningRuler.load(tmp_path / "opening")
    np.testing.assert_array_equal(loaded.opening(frames), opening_ruler.opening(frames))
    np.testing.assert_array_equal(IdentityRuler.load(tmp_path / "identity").embed(frames), identity_ruler.embed(frames))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    with pytest.raises(CorruptFileError, match="identity ruler"):
        IdentityRuler.load(tmp_path / "opening")
    with pytest.raises(PrivFedTalkError, match="no ruler"):
        OpeningRuler.load(tmp_path / "absent")


def test_rulers_pass_gradients_to_the_picture(opening_ruler: OpeningRuler, identity_ruler: IdentityRuler) -> None:
    crops = torch.rand(2, 3, SIZE, SIZE, requires_grad=True)
    (opening_ruler(crops).sum() + identity_ruler(crops)[:, 0].sum()).backward()
    assert crops.grad is not None and float(crops.grad.abs().sum()) > 0


def test_same_seed_same_weights() -> None:
    frames, openings, labels = draw_people(range(4), 4, seed=0)
    few = OpeningRulerSettings(steps=3, batch=4)
    one, two = (train_opening_ruler(frames, openings, few, seed=7).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = train_opening_ruler(frames, openings, few, seed=8).state_dict()
    assert any(not torch.equal(one[name], other[name]) for name in one)
    brief = IdentityRulerSettings(steps=3, batch=4)
    first, second = (train_identity_ruler(frames, labels, brief, seed=7).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_bad_input_is_named() -> None:
    frames, openings, labels = draw_people(range(2), 2, seed=0)
    with pytest.raises(PrivFedTalkError, match="4 crops but 3 openings"):
        train_opening_ruler(frames, openings[:3])
    with pytest.raises(PrivFedTalkError, match="float32"):
        train_identity_ruler(frames.astype(np.float32), labels)
    with pytest.raises(PrivFedTalkError, match="only speaker"):
        train_identity_ruler(frames, ["p0000"] * 4)


def test_region_is_cut_where_it_says() -> None:
    crops = torch.zeros(1, 3, 128, 128)
    crops[:, :, 64:96, 32:64] = 1
    region = sample_region(crops, (0.25, 0.5, 0.5, 0.75), (64, 64))
    torch.testing.assert_close(region[:, :, 2:-2, 2:-2], torch.ones(1, 3, 60, 60))
    outside = sample_region(crops, (0.5, 0.5, 0.75, 0.75), (64, 64))
    assert float(outside[:, :, 2:-2, 2:-2].sum()) == 0


def test_a_stretched_region_shows_a_taller_mouth() -> None:
    crops = torch.zeros(1, 3, 64, 64)
    crops[:, :, 24:40] = 1  # a band of 16 rows in the middle
    region = sample_region(crops, (0, 0, 1, 1), (64, 64), stretch=torch.tensor([2.0]))
    assert abs(float(region[0, 0].mean(dim=1).sum()) - 32) < 1
