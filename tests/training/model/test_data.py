"""Windows and streams of clips."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch

from tests.training.small_models import make_clip
from training.model.data import ClipTensors, coverage, fixed_windows, lip_shape, own_reference, stream_batches


def test_coverage_is_the_share_of_each_cell() -> None:
    share = coverage([(4, 8, 20, 16)], 4, 8)[0]
    expected = np.zeros((4, 4), np.float32)
    expected[1] = [0.5, 1.0, 0.5, 0.0]
    np.testing.assert_allclose(share, expected)


def test_windows_are_consecutive_frames_of_one_clip() -> None:
    clips = [make_clip(seed) for seed in range(5)]
    batch = next(stream_batches(iter(clips), 16, 6, np.random.default_rng(0)))
    for latents, reference in zip(batch.latents, batch.reference, strict=True):
        clip = next(c for c in clips if torch.equal(c.reference, reference))
        places = [i for i in range(15) if torch.equal(clip.latents[i : i + 6], latents)]
        assert len(places) == 1


def test_a_stream_holds_no_more_than_its_buffer_and_still_sees_every_clip() -> None:
    clips = [make_clip(seed, frames=6) for seed in range(40)]
    alive = 0

    def counting() -> Iterator[ClipTensors]:
        nonlocal alive
        for clip in clips:
            alive += 1
            yield clip

    batches = stream_batches(counting(), 4, 6, np.random.default_rng(0), buffer_frames=8 * 6)
    next(batches)
    assert alive <= 9
    seen = {float(b.reference[i].sum()) for b in itertools.islice(batches, 200) for i in range(4)}
    assert len(seen) > 30
    assert alive == 40


def test_clips_of_any_length_keep_within_the_buffer() -> None:
    lengths = np.random.default_rng(1).integers(6, 60, 60)
    clips = [make_clip(seed, frames=int(length)) for seed, length in enumerate(lengths)]
    held = {float(clip.reference.sum()): len(clip.latents) for clip in clips}
    batches = stream_batches(iter(clips), 16, 6, np.random.default_rng(0), buffer_frames=200)
    last = [next(batches) for _ in range(200)][-100:]
    left = {float(batch.reference[i].sum()) for batch in last for i in range(16)}
    assert sum(held[one] for one in left) <= 200 and len(left) > 1


def test_short_clips_are_passed_over_and_an_empty_stream_ends() -> None:
    clips = [make_clip(0, frames=3)]
    assert list(stream_batches(iter(clips), 4, 6, np.random.default_rng(0))) == []


def test_own_references_are_frames_outside_the_window_with_motion_counted_from_them() -> None:
    clip = make_clip(0, frames=10)
    rng = np.random.default_rng(0)
    for _ in range(20):
        changed = own_reference(clip, 2, 6, rng)
        places = [i for i in range(10) if torch.equal(clip.latents[i], changed.reference)]
        assert places[0] == min((0, 1, 8, 9), key=lambda moment: clip.lips[moment, 0])
        torch.testing.assert_close(changed.motion[places[0]], torch.zeros(changed.motion.shape[1]))
        torch.testing.assert_close(changed.motion.diff(dim=0), clip.motion.diff(dim=0))
    assert own_reference(clip, 0, 10, rng) is clip


def test_fixed_windows_do_not_overlap() -> None:
    clip = make_clip(0, frames=20)
    windows = fixed_windows([clip], 6)
    assert len(windows) == 3
    torch.testing.assert_close(torch.cat([w[0] for w in windows if w[0] is not None]), clip.latents[:18])


def test_lip_shape_is_in_units_of_the_eyes_distance() -> None:
    landmarks = np.zeros((1, 68, 2), np.float32)
    landmarks[0, 36:42], landmarks[0, 42:48] = (40, 50), (80, 50)
    landmarks[0, 61:64, 1], landmarks[0, 65:68, 1] = 90, 98
    landmarks[0, [61, 67], 0], landmarks[0, [62, 66], 0], landmarks[0, [63, 65], 0] = 55, 60, 65
    landmarks[0, 48], landmarks[0, 54] = (45, 94), (75, 94)
    np.testing.assert_allclose(lip_shape(landmarks), [[8 / 40, 30 / 40]], rtol=1e-6)
