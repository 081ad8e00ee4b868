"""One method on the run's panel of held-out clips: frames, metrics and the paired loss, written to its folder."""

from __future__ import annotations

import json

from evaluation.clips import read_evaluation_clips
from evaluation.contenders import client_losses, open_contender
from evaluation.landmarker import open_track
from evaluation.protocol import Judges, evaluate_method
from evaluation.settings import EvaluationSettings
from preparation.folders import RunFolder
from training.rulers import IdentityRuler, OpeningRuler
from training.settings import TrainingSettings


def measure(run: RunFolder, method: str, settings: EvaluationSettings, training: TrainingSettings, seed: int) -> None:
    """Write `metrics.parquet`, `videos/` and `validation_loss.json` (client -> loss) of one method or reference."""
    folder = run.evaluation(method)
    contender = open_contender(run, method, training, seed)
    with open_track() as (track, reason):
        judges = Judges(
            opening=OpeningRuler.load(run.model("rulers") / "opening"),
            identity=IdentityRuler.load(run.model("rulers") / "identity"),
            track=track,
            no_track_reason=reason,
        )
        clips = read_evaluation_clips(run, settings)
        evaluate_method(method, contender.generate, clips, judges, settings, folder, speaks=contender.speaks)
    losses = client_losses(run, contender.denoiser, training.objective, seed) if contender.denoiser else {}
    (folder / "validation_loss.json").write_text(json.dumps(losses, indent=1) + "\n")
