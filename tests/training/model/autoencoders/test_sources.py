"""Autoencoders from diffusers folders: told apart by their own config, standardised, copied into the run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import CorruptFileError, MissingWeightError, PrivFedTalkError
from common.weights import registry as weights
from training.model.autoencoders.small import SmallVae
from training.model.autoencoders.sources import check_source, load_autoencoder, open_pretrained, source_version
from training.settings import VaeSettings


def frames(count: int = 6, size: int = 64) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size
    phase = np.arange(count)[:, None, None, None]
    return (127 + 120 * np.sin(9 * x[..., None] + 5 * y[..., None] + phase + np.arange(3))).astype(np.uint8)


@pytest.fixture
def kl(tmp_path: Path) -> Path:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        norm_num_groups=4,
        latent_channels=6,
        scaling_factor=0.37,
        shift_factor=0.12,
    )
    network.save_pretrained(tmp_path / "kl")
    return tmp_path / "kl"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    network = AutoencoderTiny(
        encoder_block_out_channels=(16,) * 4, decoder_block_out_channels=(16,) * 4, latent_channels=5
    )
    network.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_kl_latents_are_the_scaled_mode(kl: Path) -> None:
    from diffusers import AutoencoderKL

    model = open_pretrained(str(kl))
    assert (model.downscale, model.latent_channels) == (4, 6)
    pixels = torch.rand(2, 3, 32, 32)
    network = AutoencoderKL.from_pretrained(kl).eval()
    with torch.inference_mode():
        expected = (network.encode(pixels * 2 - 1).latent_dist.mode() - 0.12) * 0.37
        torch.testing.assert_close(model.encode(pixels), expected)
        shown = network.decode(expected / 0.37 + 0.12).sample * 0.5 + 0.5
        torch.testing.assert_close(model.decode(expected), shown)


def test_tiny_is_diffusers_own(tiny: Path) -> None:
    from diffusers import AutoencoderTiny

    model = open_pretrained(str(tiny))
    assert (model.downscale, model.latent_channels) == (8, 5)
    pixels = torch.rand(2, 3, 64, 64)
    network = AutoencoderTiny.from_pretrained(tiny).eval()
    with torch.inference_mode():
        expected = network.encode(pixels * 2 - 1).latents
        torch.testing.assert_close(model.encode(pixels), expected)
        torch.testing.assert_close(model.decode(expected), network.decode(expected).sample * 0.5 + 0.5)


@pytest.mark.parametrize("kind", ["kl", "tiny"])
def test_standardised_saved_and_loaded(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = request.getfixturevalue(kind)
    model = open_pretrained(str(source))
    shown = frames()
    model.standardise(shown)
    latents = model.encode_frames(shown)
    np.testing.assert_allclose(latents.mean((0, 2, 3)), 0, atol=0.05)
    np.testing.assert_allclose(latents.std((0, 2, 3)), 1, atol=0.05)
    assert model.decode_latents(torch.from_numpy(latents)).shape == shown.shape

    model.save(tmp_path / "run")
    for path in source.iterdir():
        path.unlink()
    copy = load_autoencoder(tmp_path / "run")
    np.testing.assert_array_equal(copy.encode_frames(shown), latents)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["sha256"]


def test_memory_is_bounded_by_pixels_not_by_frames(kl: Path) -> None:
    model = open_pretrained(str(kl))
    together = model.encode_frames(frames(5))
    model.pixels_a_batch = 2 * 64 * 64
    np.testing.assert_allclose(model.encode_frames(frames(5)), together, atol=0.02)


def test_small_goes_the_same_way(tmp_path: Path) -> None:
    model = SmallVae(VaeSettings(widths=(8, 16), blocks=1)).eval()
    model.save(tmp_path)
    copy = load_autoencoder(tmp_path)
    assert isinstance(copy, SmallVae)
    np.testing.assert_array_equal(copy.encode_frames(frames()), model.encode_frames(frames()))


def test_crops_must_be_whole_cells(tiny: Path) -> None:
    with pytest.raises(PrivFedTalkError, match="100 x 100") as caught:
        open_pretrained(str(tiny)).encode_frames(frames(1, 100))
    assert "96" in caught.value.remedy


def test_version_follows_the_weights(tiny: Path) -> None:
    before = source_version(str(tiny))
    assert before == source_version(str(tiny)) != source_version("small")
    weight = tiny / "diffusion_pytorch_model.safetensors"
    content = bytearray(weight.read_bytes())
    content[-1] ^= 1
    weight.write_bytes(content)
    assert source_version(str(tiny)) != before


def test_what_cannot_serve_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_source("small")
    with pytest.raises(MissingWeightError, match="no folder /nowhere/vae"):
        check_source("/nowhere/vae")
    with pytest.raises(CorruptFileError, match=r"no config\.json"):
        check_source(str(tmp_path))
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(CorruptFileError, match="UNet2DModel"):
        open_pretrained(str(tmp_path))
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingWeightError, match="taef2_encoder"):
        check_source("taef2")


def test_hub_id_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeightError, match="nobody/no-such-autoencoder") as caught:
        open_pretrained("nobody/no-such-autoencoder@main")
    assert "save_pretrained" in caught.value.remedy
