"""A federated run on pretrained parts alone, at its smallest: learned speech features, an autoencoder, a UNet."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest
import torch

from common.folders import RunFolder
from pipelines.configuration.tree import read_overrides
from pipelines.jobs import PREPARE, TRAIN
from pipelines.runner import run_jobs
from preparation.shards.store import read_shards
from tests.pipelines.smallest import SMALLEST_STUDIO
from tests.training.small_kinds import save_small_unet

SMALLER = [
    *SMALLEST_STUDIO,
    "training.pretraining.steps=2",
    "training.federation.rounds=1",
    "training.backbone.kind=sd15",
    "training.backbone.diffused=latent",
    "training.backbone.prediction=epsilon",
    "training.backbone.schedule=stable_diffusion",
    "workers=1",
]


@pytest.mark.slow
def test_shapes_follow_the_networks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from diffusers import AutoencoderTiny
    from transformers import WhisperConfig, WhisperModel

    torch.manual_seed(0)
    AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4, latent_channels=5
    ).save_pretrained(tmp_path / "vae")
    WhisperModel(
        WhisperConfig(
            d_model=24,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            vocab_size=60,
            max_source_positions=100,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
    ).save_pretrained(tmp_path / "whisper")
    chosen = [
        f"data={tmp_path}",
        *SMALLER,
        f"training.vae.source={tmp_path / 'vae'}",
        "preparation.speech.features=whisper",
        f"preparation.speech.model={tmp_path / 'whisper'}",
        f"training.backbone.sd15.source={save_small_unet(tmp_path / 'unet', channels=5)}",
    ]
    with dg.DagsterInstance.ephemeral() as instance:
        run_jobs([PREPARE, TRAIN], "small", read_overrides(chosen), instance=instance)
    run = RunFolder(tmp_path / "small")
    client = next(path.name for path in sorted((run.root / "clients").iterdir()))
    sample = next(iter(read_shards(run.client(client))))
    assert sample.speech.shape[1:] == (10, 24) and sample.latents.shape[1] == 5
    saved = json.loads((run.model("backbone") / "config.json").read_text())
    assert saved["settings"]["kind"] == "sd15" and saved["unet"]["in_channels"] == 10
    shape = saved["shape"]
    assert (shape["speech_steps"], shape["speech_dim"], shape["latent_channels"]) == (10, 24, 5)
    assert json.loads((run.model("vae") / "config.json").read_text())["source"] == str(tmp_path / "vae")

    # Other speech: shards are made again, crops and autoencoder are kept.
    capfd.readouterr()
    with dg.DagsterInstance.ephemeral() as instance:
        run_jobs([PREPARE], "small", read_overrides([*chosen, "preparation.speech.tokens=6"]), instance=instance)
    printed = capfd.readouterr().err
    assert "shards: started" in printed
    assert "crops: unchanged, kept" in printed and "vae: unchanged, kept" in printed
    assert next(iter(read_shards(run.client(client)))).speech.shape[1:] == (6, 24)
