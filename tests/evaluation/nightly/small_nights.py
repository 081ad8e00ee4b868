"""A run at its smallest that nights can be measured on: public people with real crops and shards, small networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from common.folders import RunFolder
from evaluation.nightly.settings import NightlySettings
from evaluation.settings import EvaluationSettings
from preparation.clients.roles import Client, Role, save_clients
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import save_manifest
from preparation.media.writing import encode
from preparation.shards.store import write_shards
from tests.preparation.conftest import noise
from tests.training.small_federation import sample_for
from tests.training.small_models import small_backbone
from training.adapters.adapter import Adapter
from training.model.autoencoders.small import SmallVae
from training.model.backbones.tiny import TinyBackbone
from training.model.frozen.rulers import IdentityRuler, OpeningRuler
from training.settings import AdapterSettings, GenerationSettings, TrainingSettings, VaeSettings

FRAMES, SIZE = 12, 64
HELD_OUT, PUBLISHED = tuple(f"p{i}" for i in range(4)), tuple(f"u{i}" for i in range(3))
PRIVATE = ("c0", "stranger")
"""A client, and a client whom the federation leaves out: neither may stand on a public panel."""

TRAINING = TrainingSettings(generation=GenerationSettings(steps=1), adapter=AdapterSettings(rank=2))
EVALUATION = EvaluationSettings()
NIGHTLY = NightlySettings(clips_per_person=1)


def make_run(root: Path) -> RunFolder:
    """Four public speakers held out, three of a published test subset, two private people; two methods' adapters."""
    run = RunFolder(root)
    table, clips = {}, []
    roles: dict[str, Role] = {"p": "public", "u": "unseen", "c": "client", "s": "unseen"}
    for number, person in enumerate((*HELD_OUT, *PUBLISHED, *PRIVATE)):
        role = roles[person[0]]
        split = "validation" if role == "public" else "test"
        names = [add_clip(run, person, 10 * number + place, split) for place in range(2)]
        splits: dict[str, list[str]] = {"train": [], "validation": [], "test": [], split: names}
        table[person] = Client(role, person, splits)
        subset = {"p": "pretrain", "u": "test"}.get(person[0], "trainval")
        clips += [_row(name, person, subset) for name in names]
    save_clients(table, run.clients_table)
    save_manifest(clips, run.manifest)
    small_backbone().save(run.model("backbone"))
    SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)).save(run.model("vae"))
    OpeningRuler(width=8).save(run.model("rulers") / "opening")
    IdentityRuler(width=8, embedding=8).save(run.model("rulers") / "identity")
    for number, method in enumerate(("privfedtalk", "fedavg")):
        save_adapter(run, method, noise_level=0.01, seed=number)
    return run


def add_clip(run: RunFolder, person: str, seed: int, split: str) -> str:
    """One prepared clip of a person, added to their shards: crop, sound, and a sample; -> its id."""
    sample = sample_for("c0", seed, split)
    clip_id, rng = f"{person}/{seed:05d}", np.random.default_rng(seed)
    audio = rng.normal(0, 3000, FRAMES * 640).astype(np.int16)
    home = run.crops(person) / f"{seed:05d}.mp4"
    encode(noise(FRAMES, SIZE, SIZE, seed), audio, home)
    tensors = {"landmarks": sample.landmarks, "audio": audio, "transforms": np.zeros((FRAMES, 2, 3), np.float32)}
    save_file(tensors, home.with_suffix(".safetensors"))
    home.with_suffix(".json").write_text(json.dumps({"tracker": "truth"}))
    opening = rng.uniform(0, 0.4, FRAMES).astype(np.float32)
    one = replace(sample, key=f"{person}--{seed:05d}", client=person, clip_id=clip_id, mouth_opening=opening)
    earlier = _SAMPLES.setdefault((run.root, person), [])
    earlier.append(one)
    write_shards(run.client(person), earlier)
    return clip_id


def save_adapter(run: RunFolder, method: str, noise_level: float, seed: int = 0) -> None:
    """The model a night finds: more noise in the weights is a worse one."""
    adapter = Adapter(TinyBackbone.load(run.model("backbone")), TRAINING.adapter, seed=0)
    theta = np.random.default_rng(seed).normal(0, noise_level, len(adapter.vector())).astype(np.float32)
    adapter.save(run.adapter(method), theta, {})


def _row(clip_id: str, speaker: str, subset: str) -> Clip:
    path = f"{subset}/{clip_id}.mp4"
    return Clip(
        clip_id, speaker, path, "studio", subset, FRAMES, 25.0, SIZE, SIZE, FRAMES / 25, 16000, 1, clip_id, None, None
    )


_SAMPLES: dict = {}
