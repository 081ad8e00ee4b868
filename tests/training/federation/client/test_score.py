"""The reliability scores: the paper's by hand, and ours on clips whose speech says all, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from torch import Tensor

from preparation.shards.store import write_shards
from tests.training.small_federation import TrainerFor, sample_for, whole_settings
from training.federation.client.score import (
    Frames,
    identity_similarity,
    reliability,
    speech_dependence,
    temporal_stability,
)
from training.federation.client.training import Announcement
from training.model.data import ClipTensors


def test_the_papers_score_by_hand() -> None:
    still = np.zeros((3, 4, 4, 3), np.uint8)
    blinking = still.copy()
    blinking[1] = 51  # 0.2 up, then 0.2 down: J = 0.2
    assert temporal_stability(still, still) == 1.0
    assert temporal_stability(blinking, still) == pytest.approx(1 / 1.2)
    assert reliability(0.9, 0.5, alpha=0.7) == pytest.approx(0.78)


@pytest.mark.parametrize(("own", "moved", "score"), [(0.5, 1.0, 0.5), (1.0, 0.5, 0.0), (1.0, 1.0, 0.0), (0.0, 0, 0)])
def test_speech_dependence_stays_in_range(own: float, moved: float, score: float) -> None:
    assert speech_dependence(own, moved) == score


def loud(speech: Tensor) -> Tensor:
    """Speech [F, W, D] that says the mouth's opening of each frame and nothing else."""
    return speech.mean((1, 2), keepdim=True).mul(5).expand_as(speech)


@pytest.mark.slow(minutes=0.2)
def test_a_client_whose_clips_follow_their_speech_scores_higher(trainer_for: TrainerFor) -> None:
    """The test clips' latents follow their speech; where each clip's speech is another's, they follow nothing."""
    settings = whole_settings()
    federation = settings.federation.model_copy(update={"score": "speech", "local_steps": 120, "learning_rate": 1e-2})
    adapter = settings.adapter.model_copy(update={"rank": 8, "targets": "all"})
    trainer = trainer_for(settings.model_copy(update={"federation": federation, "adapter": adapter}))
    start, clips = Announcement(1, trainer.adapter.vector()), trainer._clips

    def scored(speech_of: Callable[[ClipTensors], Tensor]) -> float:
        trainer._clips = lambda client, split: tuple(  # type: ignore[assignment]
            replace(clip, speech=loud(speech_of(clip))) for clip in clips(client, split)
        )
        return trainer.train("c2", start).score

    foreign = clips("c1", "train")[0].speech.flip(0)
    assert scored(lambda clip: foreign) < 0.005
    assert 0.01 < scored(lambda clip: clip.speech) <= 1


def test_the_score_is_a_mean_over_as_many_held_out_clips_as_are_asked_for(
    trainer_for: TrainerFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each clip is generated and looked at by itself; the first as where it is the only one."""
    looks: list[tuple[float, float]] = []
    seen: dict[int | None, list[tuple[float, float]]] = {}
    identities: list[float] = []
    truths: list[Frames] = []

    def identity(embeddings: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> float:
        identities.append(identity_similarity(embeddings, reference))
        return identities[-1]

    def stability(generated: Frames, truth: Frames) -> float:
        truths.append(truth)
        looks.append((identities[-1], temporal_stability(generated, truth)))
        return looks[-1][1]

    monkeypatch.setattr("training.federation.client.training.identity_similarity", identity)
    monkeypatch.setattr("training.federation.client.training.temporal_stability", stability)
    settings = whole_settings()
    shards = trainer_for(settings).storage.run.client("c0")
    splits = ("train", "validation", "validation", "validation")
    write_shards(shards, [sample_for("c0", i, split) for i, split in enumerate(splits)])
    for clips in (1, 2, None):
        looks.clear()
        truths.clear()
        federation = settings.federation.model_copy(update={"score_clips": clips})
        scored = trainer_for(settings.model_copy(update={"federation": federation})).score("c0", 1)
        seen[clips] = list(looks)
        assert len(looks) == (clips or 3)
        assert (scored.identity, scored.stability) == pytest.approx(tuple(np.mean(looks, 0)))
        assert scored.score == reliability(scored.identity, scored.stability, federation.score_alpha)
        assert len({truth.tobytes() for truth in truths}) == len(truths)
    assert seen[1] == seen[2][:1]
    assert seen[2] == seen[None][:2]
    assert len(set(seen[None])) == 3
