"""The benchmark of speech finds what is there to be heard, and nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.speech import Teaching, correlations, table, taught
from tests.training.small_models import make_clip
from training.model.data import ClipTensors
from training.settings import PretrainingSettings

LEARNING = PretrainingSettings(speech_steps=60)


def clips(seed: int, audible: bool, count: int = 6) -> list[ClipTensors]:
    """Clips whose mouths follow the loudness of a middle step of the speech, or follow nothing."""
    found = []
    for number in range(count):
        clip, rng = make_clip(seed + number), np.random.default_rng(seed + number)
        steps = clip.speech.shape[1]
        noise = torch.from_numpy(rng.standard_normal(len(clip.lips)).astype(np.float32))
        gap = clip.speech[:, steps // 2].mean(-1) if audible else noise
        found.append(ClipTensors(**{**vars(clip), "lips": torch.stack([gap, noise], 1)}))
    return found


def test_what_can_be_heard_is_found_in_people_never_seen() -> None:
    for audible in (True, False):
        known, strangers = clips(0, audible, 12), {"x": clips(100, audible), "y": clips(200, audible)}
        found = correlations(taught(known, LEARNING, 16, seed=0), known, strangers)
        assert found.keys() == strangers.keys()
        assert all(value > 0.8 if audible else abs(value) < 0.4 for value in found.values()), found


def test_each_row_counts_who_taught() -> None:
    known = {"p0": clips(0, True, 2), "p1": clips(50, True, 1)}
    _, _, row = table([Teaching("both", known)], {"x": clips(100, True, 1)}, LEARNING, 16, seeds=1)
    minutes = sum(len(clip.lips) for clip in [*known["p0"], *known["p1"]]) / 1500
    assert row.startswith(f"| both | 2 | 3 | {minutes:.1f} | ")
