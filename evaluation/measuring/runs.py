"""Evaluates a method of a run on the held-out clips; writes its videos, metrics and losses to the method's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict

from common.files import write_text
from common.folders import INSTRUMENTS, VALIDATION_LOSS, RunFolder
from evaluation.catalogue import FACE_TRACKER, PERSONAL, metric, personal_of
from evaluation.measuring.clips import read_evaluation_clips
from evaluation.measuring.instruments import Missing, labels_of, open_instruments
from evaluation.measuring.models import client_losses, has_personal, open_model
from evaluation.measuring.protocol import evaluate_method
from evaluation.metrics.identity import METRICS, open_embedder
from evaluation.metrics.interface import Networks
from evaluation.metrics.networks.features import FeatureCache
from evaluation.metrics.networks.landmarker import open_track
from evaluation.settings import EvaluationSettings
from preparation.faces.embedder import KINDS
from training.adapters.origin import weights_of
from training.model.device import choose_device, one_thread
from training.model.frozen.rulers import IdentityRuler, OpeningRuler
from training.settings import TrainingSettings

TRACKER_REMEDY = "privfedtalk weights fetch face_landmarker"


def measure_with_personal(
    run: RunFolder, method: str, settings: EvaluationSettings, training: TrainingSettings, seed: int, workers: int = 1
) -> None:
    """`measure`, and the same under `personal_of(method)` where clients have adapters of their own beside the shared
    one."""
    measure(run, method, settings, training, seed, workers)
    if has_personal(run, method):
        measure(run, personal_of(method), settings, training, seed, workers)
    else:
        shutil.rmtree(run.evaluation(personal_of(method)), ignore_errors=True)  # left by an earlier run


def measure(
    run: RunFolder, method: str, settings: EvaluationSettings, training: TrainingSettings, seed: int, workers: int = 1
) -> None:
    """Evaluate one method or reference; writes `metrics.parquet`, `videos/`, `validation_loss.json` (client -> loss)
    and `instruments.json` (figures of all clips together, by role; and what was not measured and why).

    On a CPU `workers` clips are worked on side by side, on one core each; their number changes no figure.
    """
    folder = run.evaluation(method)
    cores: AbstractContextManager[None] = one_thread()
    if choose_device().type != "cpu":
        workers, cores = 1, nullcontext()
    model = open_model(run, method, training, seed)
    shutil.rmtree(folder / "videos", ignore_errors=True)  # some may be of people who may no longer be shown
    with cores, open_networks(run, settings) as (networks, missing):
        clips = read_evaluation_clips(run, settings, required=training.consent.required)
        if method.endswith(PERSONAL):  # strangers have no adapters of their own
            clips = [clip for clip in clips if clip.role == "client"]
        evaluate_method(method, model.generate, clips, networks, settings, folder, model.speaks, workers)
        losses = {}
        if model.denoiser:
            required = training.consent.required
            losses = client_losses(run, model.denoiser, training.objective, seed, required=required, workers=workers)
    together: dict[str, dict[str, float]] = {}
    for meter in networks.meters:
        for role, figures in meter.conclude().items():
            together.setdefault(role, {}).update(figures)
    found = {
        "together": together,
        "missing": [asdict(one) for one in missing],
        "adapter": weights_of(run, method.removesuffix(PERSONAL)),  # clients' own adapters started from it
    }
    write_text(folder / INSTRUMENTS, json.dumps(found, indent=1) + "\n")
    write_text(folder / VALIDATION_LOSS, json.dumps(losses, indent=1) + "\n")


@contextmanager
def open_networks(run: RunFolder, settings: EvaluationSettings) -> Iterator[tuple[Networks, list[Missing]]]:
    """The frozen networks that measure one method, as far as they are present, and what is missing and why."""
    meters, missing = open_instruments(
        settings.instruments, FeatureCache(run.features), settings.distribution_frames_per_clip
    )
    device = choose_device()
    embedder = open_embedder(settings.face_embedder)
    with open_track() as (track, reason):
        if track is None:
            missing.append(Missing(labels_of(FACE_TRACKER), reason, TRACKER_REMEDY))
        if track is None or embedder is None:
            kind = KINDS[settings.face_embedder]
            remedy = f"{TRACKER_REMEDY} {kind.weight}"
            label = metric(METRICS[settings.face_embedder]).label
            missing.append(Missing((label,), "tracker or embedder is absent", remedy))
        networks = Networks(
            opening=OpeningRuler.load(run.model("rulers") / "opening").to(device),
            identity=IdentityRuler.load(run.model("rulers") / "identity").to(device),
            track=track,
            faces=embedder,
            meters=meters,
        )
        yield networks, missing
