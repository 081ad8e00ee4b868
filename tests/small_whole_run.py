"""A run at its smallest with everything in it: four clients, two unseen people, three public speakers and a volunteer,
each with crops and shards, frozen networks, and a federation with personal adapters. For tests that walk a whole run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from assets.stage.partitions import REFERENCES
from common.folders import RunFolder
from evaluation.attacks.canaries import AuditSettings, audit_run
from evaluation.attacks.inversion_figures import run_inversion
from evaluation.attacks.inversion_run import InversionSettings
from evaluation.attacks.membership import MembershipSettings, attack_membership
from evaluation.measuring.runs import measure_with_personal
from evaluation.nightly.measuring import measure_night
from evaluation.nightly.settings import NightlySettings
from evaluation.report.gather import gather_report, gather_results
from evaluation.report.page import write_report
from evaluation.report.privacy_page import write_privacy_reports
from evaluation.results.document import write_results
from evaluation.settings import EvaluationSettings
from preparation.clients.consent import record_rendered
from preparation.clients.roles import Client, Role, save_clients
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import save_manifest
from preparation.media.writing import encode
from preparation.shards.store import Sample, write_shards
from tests.preparation.conftest import noise
from tests.training.small_federation import sample_for
from tests.training.small_models import small_backbone
from training.model.autoencoders.small import SmallVae
from training.model.frozen.rulers import IdentityRuler, OpeningRuler
from training.pipeline import federate
from training.settings import (
    AdapterSettings,
    ExecutionSettings,
    FederationSettings,
    GenerationSettings,
    TrainingSettings,
    VaeSettings,
)
from training.settings.privacy import PrivacySettings

FRAMES, SIZE = 12, 64
CLIENTS, UNSEEN = ("anna", "bela", "cleo", "dora"), ("uma", "ugo")
PUBLIC, HELD_OUT, VOLUNTEERS = ("paul",), ("pia", "pepe"), ("vera",)
NIGHTLY, EVALUATION = NightlySettings(clips_per_person=1), EvaluationSettings(clips_per_client=1)
TRAINING = TrainingSettings(
    methods=("fedavg",),
    federation=FederationSettings(
        rounds=1, local_steps=1, batch_size=1, score_frames=2, score_steps=1, personalisation_steps=1
    ),
    adapter=AdapterSettings(rank=2),
    privacy=PrivacySettings(clip_norm=0.05, noise_multiplier=0.5, n_max=3),
    generation=GenerationSettings(steps=1),
    execution=ExecutionSettings(engine="here"),
)
INVERSION = InversionSettings(clients=2, cohort=3, steps=1, guesses=1, guessed_steps=1)


def make_run(root: Path) -> RunFolder:
    """Everybody's crops, shards and consent records, and the frozen networks; nothing is trained yet."""
    run, table, clips = RunFolder(root), {}, []
    people: dict[Role, Sequence[str]] = {"client": CLIENTS, "unseen": UNSEEN, "public": (*PUBLIC, *HELD_OUT)}
    people["volunteer"] = VOLUNTEERS
    roles = {name: role for role, names in people.items() for name in names}
    for number, (name, role) in enumerate(roles.items()):
        splits = ["train", "validation", "test"] if role == "client" else ["test"]
        if role != "unseen" and role != "client":
            splits = ["train"] if name in PUBLIC else ["validation"]
        samples = [_add_clip(run, name, 10 * number + place, split) for place, split in enumerate(splits)]
        write_shards(run.client(name), samples)
        placed = {split: [s.clip_id for s in samples if s.split == split] for split in ("train", "validation", "test")}
        table[name] = Client(role, name, placed)
        subset = {"public": "pretrain", "unseen": "test", "volunteer": "volunteers"}.get(role, "trainval")
        clips += [clip_row(sample.clip_id, name, subset) for sample in samples]
    save_clients(table, run.clients_table)
    save_clients(table, run.people_table)
    save_manifest(clips, run.manifest)
    record_rendered(run)
    small_backbone().save(run.model("backbone"))
    curve = [{"step": 1, "training_loss": 1.0, "validation_loss": 1.0}]
    (run.model("backbone") / "curve.json").write_text(json.dumps(curve))
    SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)).save(run.model("vae"))
    OpeningRuler(width=8).save(run.model("rulers") / "opening")
    IdentityRuler(width=8, embedding=8).save(run.model("rulers") / "identity")
    return run


def clip_row(clip_id: str, speaker: str, subset: str) -> Clip:
    path = f"{subset}/{clip_id}.mp4"
    return Clip(
        clip_id, speaker, path, "studio", subset, FRAMES, 25.0, SIZE, SIZE, FRAMES / 25, 16000, 1, clip_id, None, None
    )


def _add_clip(run: RunFolder, person: str, seed: int, split: str) -> Sample:
    sample, rng = sample_for("c0", seed, split), np.random.default_rng(seed)
    audio = rng.normal(0, 3000, FRAMES * 640).astype(np.int16)
    home = run.crops(person) / f"{seed:05d}.mp4"
    encode(noise(FRAMES, SIZE, SIZE, seed), audio, home)
    tensors = {"landmarks": sample.landmarks, "audio": audio, "transforms": np.zeros((FRAMES, 2, 3), np.float32)}
    save_file(tensors, home.with_suffix(".safetensors"))
    home.with_suffix(".json").write_text(json.dumps({"tracker": "truth", "frames": FRAMES}))
    opening = rng.uniform(0, 0.4, FRAMES).astype(np.float32)
    clip_id = f"{person}/{seed:05d}"
    return replace(sample, key=f"{person}--{seed:05d}", client=person, clip_id=clip_id, mouth_opening=opening)


def train(run: RunFolder, method: str = "fedavg", resume: bool = False) -> None:
    federate(run, method, TRAINING, seed=0, resume=resume)


def evaluate(run: RunFolder, method: str = "fedavg") -> None:
    measure_with_personal(run, method, EVALUATION, TRAINING, 0)


def invert(run: RunFolder, method: str = "fedavg") -> None:
    run_inversion(run, method, TRAINING, 0, INVERSION)


def infer_membership(run: RunFolder, method: str = "fedavg") -> None:
    attack_membership(run, method, TRAINING, 0, MembershipSettings(shadows=4, draws=1))


def audit(run: RunFolder, method: str = "fedavg") -> None:
    audit_run(run, method, AuditSettings(canaries=40, dimension=100))


def spend_a_night(run: RunFolder) -> None:
    measure_night(run, "2026-11-01", NIGHTLY, EVALUATION, TRAINING, 0)


def report(run: RunFolder) -> None:
    """results.json, the page, and the privacy pages."""
    corpus = {"kind": "studio", "rendered": True, "speakers": 10, "clips": 18, "refused": 0, "face_rate": 1.0}
    found = gather_results(
        run, ["fedavg"], REFERENCES, {}, peak_memory_gb=1.0, corpus=corpus, face_tracker="truth", seed=0
    )
    write_results(found, run.results)
    write_report(run.report, gather_report(run, found, EVALUATION, {}, run.corpus))
    write_privacy_reports(run, ["fedavg"], run.report / "privacy")


def make_whole(run: RunFolder) -> None:
    """Everything that is ever made of a run."""
    train(run)
    for method in ("fedavg", "backbone"):
        evaluate(run, method)
    audit(run)
    infer_membership(run)
    invert(run)
    spend_a_night(run)
    report(run)
