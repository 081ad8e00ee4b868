"""The reliability scores: the paper's by hand, and ours on clips whose speech says all, or nothing."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.small_federation import TrainerFor, whole_settings
from training.client import Announcement
from training.score import reliability, speech_dependence, temporal_stability


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


def test_a_client_whose_clips_follow_their_speech_scores_higher(
    trainer_for: TrainerFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test clips' latents follow their speech; where each clip's speech is the next one's, they follow nothing."""
    # Thirty steps of a tiny network teach it little: bfloat16's rounding is larger than what speech then explains.
    monkeypatch.setattr("training.device.has_fast_bfloat16", lambda device: False)
    settings = whole_settings()
    federation = settings.federation.model_copy(update={"score": "speech", "local_steps": 30})
    trainer = trainer_for(settings.model_copy(update={"federation": federation}))
    start = Announcement(1, trainer.adapter.vector())
    good = trainer.train("c2", start).score
    clips = trainer._clips

    def of_another(client: str, split: str):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        others = clips("c1", "train")
        return tuple(replace(clip, speech=others[0].speech.flip(0)) for clip in clips(client, split))

    trainer._clips = of_another  # type: ignore[assignment]
    bad = trainer.train("c2", start).score
    assert 0 <= bad < good <= 1
