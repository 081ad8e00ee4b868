"""Each kind of backbone the whole way, at its smallest: pretrained, federated, generating, evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.folders import RunFolder
from evaluation.measuring.models import client_losses, open_model
from evaluation.measuring.protocol import evaluate_method
from evaluation.metrics.clip import EvaluationClip
from evaluation.metrics.interface import Networks
from evaluation.settings import EvaluationSettings
from preparation.clients.roles import Client, save_clients
from preparation.shards.store import read_shards, write_shards
from tests.training.small_federation import CLIENTS, sample_for, whole_settings
from tests.training.small_kinds import KINDS, small_settings
from tests.training.small_models import make_clip
from training.learning.pretraining import pretrain
from training.model.autoencoders.small import SmallVae
from training.model.frozen.rulers import IdentityRuler, OpeningRuler
from training.pipeline import federate
from training.settings import GenerationSettings, ObjectiveSettings, PretrainingSettings, VaeSettings


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Three clients, a public speaker who is held out, and the frozen networks but the backbone."""
    run = RunFolder(tmp_path / "run")
    torch.manual_seed(0)
    SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)).save(run.model("vae"))
    IdentityRuler(width=8, embedding=8).save(run.model("rulers") / "identity")
    table = {"p0": Client("public", "p0", {"train": [], "validation": ["p0/0"], "test": []})}
    write_shards(run.client("p0"), [sample_for("c0", 7, "validation")])
    for client in CLIENTS:
        write_shards(
            run.client(client),
            [sample_for(client, i, split) for i, split in enumerate(("train", "validation", "test"))],
        )
        table[client] = Client("client", client, {"train": [], "validation": [], "test": []})
    save_clients(table, run.clients_table)
    save_clients(table, run.people_table)
    return run


def clip_of(run: RunFolder, client: str) -> EvaluationClip:
    """A held-out clip; its true frames are random, for nothing here depends on them but the figures' values."""
    sample = next(iter(read_shards(run.client(client), "test")))
    frames = np.random.default_rng(0).integers(0, 256, (len(sample.speech), 64, 64, 3), np.uint8)
    silence = np.zeros(len(frames) * 640, np.int16)
    speech = sample.speech.astype(np.float32)
    return EvaluationClip(
        sample.clip_id, client, "client", frames, sample.landmarks, None, silence, speech, frames[0], sample=sample
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_pretrained_federated_generating_and_evaluated(kind: str, run: RunFolder, tmp_path: Path) -> None:
    objective = ObjectiveSettings()
    learning = PretrainingSettings(steps=4, batch_size=2, speech_steps=4, validate_every=2, learning_rate=1e-3)
    public, held_out = [make_clip(seed) for seed in range(4)], [make_clip(9)]
    chosen = small_settings(kind, tmp_path / "unet")
    backbone, history = pretrain(lambda: iter(public), held_out, chosen, objective, learning, seed=0)
    assert [row.step for row in history] == [2, 4] and all(np.isfinite(row.validation_loss) for row in history)
    assert bool((backbone.residual_std == 1).all()) == (chosen.diffused == "latent")
    backbone.save(run.model("backbone"))

    settings = whole_settings().model_copy(
        update={"backbone": chosen, "generation": GenerationSettings(steps=2, overlap=2)}
    )
    settings = settings.model_copy(update={"federation": settings.federation.model_copy(update={"rounds": 1})})
    result = federate(run, "privfedtalk", settings, seed=0, resume=False)
    assert result.records[0].outcome == "applied" and result.records[0].survivors == len(CLIENTS)
    assert result.records[0].update_norm > 0 and np.isfinite(result.theta).all()

    networks = Networks(OpeningRuler(width=8), IdentityRuler.load(run.model("rulers") / "identity"))
    clips = [clip_of(run, client) for client in CLIENTS[:1]]
    frames, losses = {}, {}
    for method in ("privfedtalk", "backbone", "noise"):
        model = open_model(run, method, settings, seed=0)
        table = evaluate_method(method, model.generate, clips, networks, EvaluationSettings())
        assert {"psnr", "identity", "mouth_psnr"} <= set(table["metric"])
        frames[method] = model.generate(clips[0], clips[0].speech)
        assert model.denoiser is not None
        losses[method] = client_losses(run, model.denoiser, objective, seed=0, required=False)
        assert set(losses[method]) == set(CLIENTS) and all(np.isfinite(list(losses[method].values())))
    # The adapter is in use, and none of them is another.
    assert len({tuple(loss.values()) for loss in losses.values()}) == len(losses)
    assert not np.array_equal(frames["backbone"], frames["noise"])
    assert frames["privfedtalk"].shape == clips[0].frames.shape
