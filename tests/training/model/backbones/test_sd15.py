"""Stable Diffusion's UNet, inflated: what it said of a frame it still says; size; conditions; diffusers' own files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from safetensors.torch import load_file

from common.errors import CorruptFileError, MissingWeightError, PrivFedTalkError
from tests.training.small_kinds import save_small_unet, small_kind, small_settings
from tests.training.small_models import SHAPE
from training.adapters.adapter import Adapter
from training.model.backbones.interface import BackboneShape
from training.model.backbones.kinds import build_backbone, load_backbone
from training.model.backbones.sd15 import Sd15Backbone
from training.model.backbones.sources import check_sources, sources_version
from training.model.data import Batch
from training.settings import AdapterSettings, BackboneSettings
from training.settings.backbones import Sd15Settings

T = torch.tensor([3, 500, 999])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_small_unet(tmp_path / "unet")


@pytest.fixture
def inflated(folder: Path) -> Sd15Backbone:
    torch.manual_seed(1)
    model = build_backbone(small_settings("sd15", folder), SHAPE)
    assert isinstance(model, Sd15Backbone)
    return model.eval()


@torch.no_grad()
def predict(model: torch.nn.Module, batch: Batch, **changes: torch.Tensor) -> torch.Tensor:
    inputs = {"z_t": batch.latents, "speech": batch.speech, "reference": batch.reference, "motion": batch.motion}
    return model(t=T, **{**inputs, **changes})


@torch.no_grad()
def test_inflation_leaves_the_output_of_every_single_frame(folder: Path, inflated: Sd15Backbone, batch: Batch) -> None:
    flat = UNet2DConditionModel.from_pretrained(folder).eval()
    tokens = inflated.tokens(batch.speech, batch.reference, batch.motion.clamp(-4, 4))
    for frame in range(batch.latents.shape[1]):
        expected = flat(batch.latents[:, frame], T, tokens[:, frame]).sample
        alone = {name: getattr(batch, name)[:, frame : frame + 1] for name in ("speech", "motion")}
        single = predict(inflated, batch, z_t=batch.latents[:, frame : frame + 1], **alone)
        torch.testing.assert_close(single[:, 0], expected, atol=1e-5, rtol=0)
        # Among its neighbours a frame is told the same: the temporal layers add nothing yet.
        torch.testing.assert_close(predict(inflated, batch)[:, frame], expected, atol=1e-5, rtol=0)


def test_a_frame_hears_its_own_speech_alone(inflated: Sd15Backbone, batch: Batch) -> None:
    other = batch.speech.clone()
    other[:, 2] += 1.0
    changed = (predict(inflated, batch, speech=other) - predict(inflated, batch)).abs().amax((0, 2, 3, 4))
    assert changed[2] > 1e-3
    assert changed[[0, 1, 3, 4, 5]].max() < 1e-6


def test_trained_temporal_layers_let_frames_know_of_each_other(tmp_path: Path, batch: Batch) -> None:
    model = small_kind("sd15", tmp_path / "unet")
    other = batch.latents.clone()
    other[:, 2] += 1.0
    changed = (predict(model, batch, z_t=other) - predict(model, batch)).abs().amax((0, 2, 3, 4))
    assert changed.min() > 1e-4


def test_reference_channels_start_at_zero_and_learn(inflated: Sd15Backbone, batch: Batch) -> None:
    channels = SHAPE.latent_channels
    weight = inflated.unet.conv_in.weight
    assert weight.shape[1] == 2 * channels and not weight[:, channels:].any()
    out = inflated(batch.latents, T, batch.speech, batch.reference, batch.motion)
    out.square().mean().backward()
    assert weight.grad is not None and weight.grad[:, channels:].any()
    temporal = inflated.unet.down_blocks[0].motion_modules[0].proj_out.weight.grad
    assert temporal is not None and temporal.any()


def test_full_size_has_the_published_number_of_parameters() -> None:
    shape = BackboneShape(latent_channels=4, latent_size=32, speech_steps=50, speech_dim=384, motion_dim=12)
    with torch.device("meta"):
        model = build_backbone(BackboneSettings(kind="sd15", window=16), shape)
        out = model(
            torch.zeros(1, 16, 4, 32, 32),
            torch.zeros(1, dtype=torch.long),
            torch.zeros(1, 16, 50, 384),
            torch.zeros(1, 4, 32, 32),
            torch.zeros(1, 16, 12),
        )
    assert out.shape == (1, 16, 4, 32, 32)
    parts = {"temporal": 0, "conditions": 0, "pictures": 0}
    for name, parameter in model.named_parameters():
        part = "temporal" if "motion_modules" in name else "conditions" if name.startswith("tokens.") else "pictures"
        parts[part] += parameter.numel()
    widened = 320 * 4 * 3 * 3
    assert parts["pictures"] == 859_520_964 + widened  # the 859.5 M of Stable Diffusion 1.5
    assert parts["temporal"] == 453_209_280  # AnimateDiff's, with its middle block
    assert parts["conditions"] < 2_000_000


def test_a_pipeline_folder_and_its_network_are_the_same_source(folder: Path, tmp_path: Path, batch: Batch) -> None:
    pipeline = tmp_path / "pipeline"
    shutil.copytree(folder, pipeline / "unet")
    (pipeline / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    made = []
    for source in (folder, pipeline):
        torch.manual_seed(1)
        settings = small_settings("sd15", folder)
        made.append(
            build_backbone(settings.model_copy(update={"sd15": Sd15Settings(source=str(source))}), SHAPE).eval()
        )
    assert torch.equal(predict(made[0], batch), predict(made[1], batch))
    versions = [
        sources_version(BackboneSettings(kind="sd15", sd15=Sd15Settings(source=str(source))))
        for source in (folder, pipeline)
    ]
    assert versions[0] == versions[1] != sources_version(BackboneSettings(kind="sd15"))


def test_a_motion_adapter_brings_its_temporal_layers(folder: Path, tmp_path: Path, batch: Batch) -> None:
    torch.manual_seed(2)
    MotionAdapter(
        block_out_channels=(16, 32), motion_layers_per_block=1, motion_norm_num_groups=8, motion_max_seq_length=8
    ).save_pretrained(tmp_path / "motion")
    torch.manual_seed(1)
    settings = small_settings("sd15", folder)
    sources = Sd15Settings(source=str(folder), motion=str(tmp_path / "motion"))
    model = build_backbone(settings.model_copy(update={"sd15": sources}), SHAPE).eval()
    saved = load_file(tmp_path / "motion" / "diffusion_pytorch_model.safetensors")
    held = model.get_submodule("unet").state_dict()
    assert saved and all(torch.equal(held[name], value) for name, value in saved.items())
    with pytest.raises(PrivFedTalkError, match="reach over 8 frames"):
        build_backbone(settings.model_copy(update={"sd15": sources, "window": 9}), SHAPE)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    def opened(source: Path | str) -> None:
        build_backbone(BackboneSettings(kind="sd15", sd15=Sd15Settings(source=str(source))), SHAPE)

    with pytest.raises(PrivFedTalkError, match="latents of 5 channels; those of this run have 4"):
        opened(save_small_unet(tmp_path / "five", channels=5))
    with pytest.raises(CorruptFileError, match="class_embed_type='timestep'"):
        opened(save_small_unet(tmp_path / "classes", class_embed_type="timestep"))
    with pytest.raises(CorruptFileError, match="holds a MotionAdapter"):
        MotionAdapter(block_out_channels=(8,), motion_norm_num_groups=8).save_pretrained(tmp_path / "motion")
        opened(tmp_path / "motion")
    with pytest.raises(MissingWeightError, match="cannot be loaded"):
        opened(tmp_path)
    with pytest.raises(MissingWeightError, match=r"no folder /nowhere/sd15 for training\.backbone\.sd15\.source"):
        check_sources(BackboneSettings(kind="sd15", sd15=Sd15Settings(source="/nowhere/sd15")))
    check_sources(
        BackboneSettings(kind="sd15", sd15=Sd15Settings(source="owner/name@main", motion="owner/name/inner@main"))
    )
    check_sources(BackboneSettings(kind="base", sd15=Sd15Settings(source="/nowhere/sd15")))


@torch.no_grad()
def test_backbone_and_adapter_open_with_diffusers_alone(tmp_path: Path, batch: Batch) -> None:
    """Nothing of ours between the files and diffusers: its configuration, its names, its loader of LoRA."""
    model = small_kind("sd15", tmp_path / "unet")
    model.save(tmp_path / "base")
    adapter = Adapter(load_backbone(tmp_path / "base"), AdapterSettings(rank=2, alpha=6.0, targets="attention"), seed=1)
    theta = adapter.vector() + np.random.default_rng(0).normal(0, 0.05, len(adapter)).astype(np.float32)
    adapter.save(tmp_path / "adapter", theta, {})
    ours = adapter.backbone
    assert isinstance(ours, Sd15Backbone)
    shown = torch.cat([batch.latents, batch.reference[:, None].expand_as(batch.latents)], 2).transpose(1, 2)
    tokens = ours.tokens(batch.speech, batch.reference, batch.motion).flatten(0, 1)
    expected = ours.unet(shown, T, tokens).sample

    config = json.loads((tmp_path / "base" / "config.json").read_text())["unet"]
    weights = load_file(tmp_path / "base" / "model.safetensors")
    theirs = UNetMotionModel.from_config(config).eval()
    theirs.load_state_dict({k.removeprefix("unet."): v for k, v in weights.items() if k.startswith("unet.")})
    plain = theirs(shown, T, tokens).sample
    lora = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    alphas = {name.partition("lora_A")[0] + "alpha": 6.0 for name in lora if "lora_A" in name}
    theirs.load_lora_adapter(lora, prefix="base_model.model.unet", network_alphas=alphas)
    torch.testing.assert_close(theirs(shown, T, tokens).sample, expected, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(plain, expected, atol=1e-4)
