"""The attacks as assets: on what a small run left, for every method that federates."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.evaluation.attacks import canary_audit, membership_inference
from assets.stage.run import Run
from evaluation.settings import EvaluationSettings
from preparation.corpora.studio.settings import StudioSettings
from preparation.settings import CorpusKind, PreparationSettings
from tests.evaluation.attacks.small_people import TRAINING, federated, make_run, release


@pytest.mark.slow(minutes=0.1)
def test_both_leave_their_findings_in_the_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "mine")
    release(folder, federated(folder, tmp_path, method=None))
    training = TRAINING.model_copy(update={"methods": ("fedavg", "local")})
    run = Run(
        folder, 0, CorpusKind.STUDIO, folder.corpus, StudioSettings(), PreparationSettings(), training,
        EvaluationSettings(), workers=1,
    )  # fmt: skip
    assert "nothing to refute" in str(canary_audit(run).metadata["methods"])
    assert "surely better than a guess" in str(membership_inference(run).metadata["methods"])
    for name in ("audit", "membership"):
        assert (folder.attack(name, "fedavg") / f"{name}.json").exists()
