"""Which pretrained judges are here: part of what an evaluation was made with."""

from __future__ import annotations

from common.weights import registry as weights
from evaluation.measuring.instruments import INSTRUMENTS
from evaluation.settings import EvaluationSettings
from preparation.faces.embedder import KINDS


def judges_version(settings: EvaluationSettings) -> str:
    """Which of the pretrained networks that the settings ask for are here, by content: one that is fetched later is a
    reason to measure again."""
    asked = [INSTRUMENTS[name][1] for name in settings.instruments]
    names = ["face_landmarker", KINDS[settings.face_embedder].weight, *(name for name in asked if name)]
    here = {name: path for name in names if (path := weights.find_optional(name)) is not None}
    return " ".join(f"{name}:{weights.sha256_of(path)}" for name, path in sorted(here.items()))
