"""Measures every method's newest model on the panel in one night; writes a folder named by the night's date.

nightly/2026-11-26/<method>/metrics.parquet, videos/     metric rows, and videos of each person
nightly/2026-11-26/night.json                            what was measured and with what, written last
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date

import pandas as pd

from common.errors import PrivFedTalkError
from common.files import write_text
from common.folders import ADAPTER_RECORD, ADAPTER_WEIGHTS, METRICS, RunFolder
from evaluation.catalogue import BACKBONE
from evaluation.measuring.instruments import networks_version
from evaluation.measuring.models import ComparedModel, open_model
from evaluation.measuring.protocol import COLUMNS, evaluate_method, summarise
from evaluation.measuring.runs import open_networks
from evaluation.metrics.clip import EvaluationClip
from evaluation.nightly.nights import Night
from evaluation.nightly.public_clips import read_panel
from evaluation.nightly.settings import NightlySettings
from evaluation.report.gather import versions
from evaluation.settings import EvaluationSettings
from preparation.quarantine import write_parquet
from training.federation.methods import METHODS
from training.learning.validation import validation_loss
from training.model.data import ClipTensors
from training.settings import TrainingSettings


def newest_models(run: RunFolder) -> dict[str, str]:
    """Method -> sixteen hex digits of its adapter and the adapter's record, which names the backbone; methods without
    an adapter are left out."""
    models = {}
    for method in METHODS:
        folder = run.adapter(method)
        if (folder / ADAPTER_RECORD).exists():  # written last
            parts = [(folder / name).read_bytes() for name in (ADAPTER_WEIGHTS, ADAPTER_RECORD)]
            models[method] = hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    return models


def measure_night(
    run: RunFolder,
    night: str,
    nightly: NightlySettings,
    evaluation: EvaluationSettings,
    training: TrainingSettings,
    seed: int,
    code: str = "",
) -> Night:
    """Measure the frozen backbone and the newest model of every method on the panel.

    A night that was measured before is replaced. `night` is a date as YYYY-MM-DD; `code` is the version of the sources,
    written beside the figures. Figures of all clips together (FID, FVD) are left out: they cannot be tested, and the
    panel is too small for them. Raises PrivFedTalkError where the run has no trained model.
    """
    date.fromisoformat(night)  # raises ValueError where the name is no date
    models = newest_models(run)
    if not models:
        raise PrivFedTalkError(f"{run.root} has no trained model", remedy="train one first (`privfedtalk train`)")
    clips, panel = read_panel(run, nightly, seed)
    folder = run.nightly / night
    shutil.rmtree(folder, ignore_errors=True)
    means: dict[str, dict[str, float]] = {}
    missing: dict[str, str] = {}
    for method in (BACKBONE, *models):
        model = open_model(run, method, training, seed)
        with open_networks(run, evaluation) as (networks, absent):
            measured = evaluate_method(
                method, model.generate, clips, networks, evaluation, folder / method, speaks=False
            )
        table = pd.concat([measured, _losses(method, model, clips, training, seed)], ignore_index=True)
        write_parquet(table, folder / method / METRICS)
        means[method] = {
            metric: whole.mean for metric, whole in summarise(table)[method].items() if whole.mean == whole.mean
        }
        missing |= {metric: one.reason for one in absent for metric in one.metrics}
    settings = hashlib.sha256(
        f"{evaluation.fingerprint()}{training.generation.fingerprint()}{training.objective.fingerprint()}{seed}".encode()
    )
    people = len({clip.client for clip in clips})
    made_with = versions() | {"code": code, "judges": networks_version(evaluation)}
    found = Night(night, panel, people, len(clips), settings.hexdigest()[:16], models, made_with, means, missing)
    write_text(folder / "night.json", json.dumps(asdict(found), indent=1, allow_nan=False) + "\n")
    return found


def _losses(
    method: str, model: ComparedModel, clips: Sequence[EvaluationClip], training: TrainingSettings, seed: int
) -> pd.DataFrame:
    """Rows of each person's denoising loss; noise and timesteps are the same for every method and night."""
    assert model.denoiser is not None, "the backbone and every method denoise"
    by_person: dict[str, list[ClipTensors]] = defaultdict(list)
    for clip in clips:
        if clip.sample is not None:
            by_person[clip.client].append(ClipTensors.from_sample(clip.sample))
    rows = []
    for person, own in by_person.items():
        denoiser = model.denoiser(person)
        if any(len(clip.latents) >= denoiser.settings.window for clip in own):
            loss = validation_loss(denoiser, own, training.objective, seed)
            rows.append((method, "unseen", person, "", "validation_loss", loss))
    return pd.DataFrame(rows, columns=COLUMNS)
