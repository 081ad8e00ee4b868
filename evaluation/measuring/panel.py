"""One method on the run's panel of held-out clips: frames, metrics and the paired loss, written to its folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from common.files import write_text
from common.folders import RunFolder
from evaluation.measuring.clips import read_evaluation_clips
from evaluation.measuring.contenders import client_losses, has_personal, open_contender
from evaluation.measuring.features import FeatureCache
from evaluation.measuring.instruments import Missing, open_instruments
from evaluation.measuring.metrics.identity import open_embedder
from evaluation.measuring.metrics.landmarker import open_track
from evaluation.measuring.protocol import Judges, evaluate_method
from evaluation.names import PERSONAL, personal_of
from evaluation.settings import EvaluationSettings
from preparation.faces.embedder import KINDS
from training.adapters.origin import weights_of
from training.model.device import choose_device
from training.model.frozen.rulers import IdentityRuler, OpeningRuler
from training.settings import TrainingSettings

TRACKER_REMEDY = "privfedtalk weights fetch face_landmarker"


def measure_with_personal(
    run: RunFolder, method: str, settings: EvaluationSettings, training: TrainingSettings, seed: int
) -> None:
    """`measure`, and the same under `names.personal_of` where clients have their own adapters beside the shared one."""
    measure(run, method, settings, training, seed)
    if has_personal(run, method):
        measure(run, personal_of(method), settings, training, seed)
    else:
        shutil.rmtree(run.evaluation(personal_of(method)), ignore_errors=True)  # of an earlier run


def measure(run: RunFolder, method: str, settings: EvaluationSettings, training: TrainingSettings, seed: int) -> None:
    """Write what one method or reference is worth: `metrics.parquet`, `videos/`, `validation_loss.json` (client ->
    loss), `instruments.json` (figures of all clips together, by role; and what was not measured and why)."""
    folder = run.evaluation(method)
    contender = open_contender(run, method, training, seed)
    shutil.rmtree(folder / "videos", ignore_errors=True)  # of people who may not be shown any more, among others
    with open_judges(run, settings) as (judges, missing):
        clips = read_evaluation_clips(run, settings, required=training.consent.required)
        if method.endswith(PERSONAL):  # strangers have no adapter of their own
            clips = [clip for clip in clips if clip.role == "client"]
        evaluate_method(method, contender.generate, clips, judges, settings, folder, speaks=contender.speaks)
    together: dict[str, dict[str, float]] = {}
    for instrument in judges.instruments:
        for role, figures in instrument.conclude().items():
            together.setdefault(role, {}).update(figures)
    told = {
        "together": together,
        "missing": [asdict(one) for one in missing],
        "adapter": weights_of(run, method.removesuffix(PERSONAL)),  # clients' own began from it
    }
    write_text(folder / "instruments.json", json.dumps(told, indent=1) + "\n")
    losses = {}
    if contender.denoiser:
        required = training.consent.required
        losses = client_losses(run, contender.denoiser, training.objective, seed, required=required)
    write_text(folder / "validation_loss.json", json.dumps(losses, indent=1) + "\n")


@contextmanager
def open_judges(run: RunFolder, settings: EvaluationSettings) -> Iterator[tuple[Judges, list[Missing]]]:
    """The frozen networks that measure one method, as far as they can be had, and what is missing and why."""
    instruments, missing = open_instruments(
        settings.instruments, FeatureCache(run.features), settings.distribution_frames_per_clip
    )
    device = choose_device()
    embedder = open_embedder(settings.face_embedder)
    with open_track() as (track, reason):
        if track is None:
            missing.append(Missing(("face found", "LMD", "landmark jitter"), reason, TRACKER_REMEDY))
        if track is None or embedder is None:
            kind = KINDS[settings.face_embedder]
            remedy = f"{TRACKER_REMEDY} {kind.weight}"
            missing.append(Missing((f"identity ({kind.label})",), "tracker or embedder is absent", remedy))
        judges = Judges(
            opening=OpeningRuler.load(run.model("rulers") / "opening").to(device),
            identity=IdentityRuler.load(run.model("rulers") / "identity").to(device),
            track=track,
            no_track_reason=reason,
            faces=embedder,
            instruments=instruments,
        )
        yield judges, missing
