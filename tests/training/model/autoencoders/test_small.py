"""The small autoencoder: shapes, units, files, and that training teaches it something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training.model.autoencoders.base import to_pixels, to_uint8
from training.model.autoencoders.small import reconstruction_loss, train_vae
from training.model.autoencoders.sources import load_autoencoder
from training.settings import VaeSettings

SMALL = VaeSettings(widths=(16, 32), blocks=1, steps=400, batch_size=4)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """A soft blob of one colour on another, uint8 [count, 64, 64, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64] / 64
    centres, colour, ground = rng.random((count, 2)), rng.random((count, 1, 1, 3)), rng.random((count, 1, 1, 3))
    blob = np.exp(-((x - centres[:, :1, None]) ** 2 + (y - centres[:, 1:, None]) ** 2) / 0.05)[..., None]
    return (255 * (blob * colour + (1 - blob) * ground)).astype(np.uint8)


def test_frames_survive_the_change_of_layout() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(to_uint8(to_pixels(frames)), frames)


def test_reconstruction_loss_is_weighted_l1_of_pixels_and_of_their_differences() -> None:
    predicted, target, weight = torch.rand(2, 3, 5, 7), torch.rand(2, 3, 5, 7), torch.rand(2, 1, 5, 7)
    error = predicted - target
    plain = (weight * error.abs()).mean()
    across = (weight[..., 1:] * error.diff(dim=-1).abs()).mean()
    down = (weight[:, :, 1:] * error.diff(dim=-2).abs()).mean()
    torch.testing.assert_close(reconstruction_loss(predicted, target, weight, 0.0), plain)
    torch.testing.assert_close(reconstruction_loss(predicted, target, weight, 0.5), plain + 0.5 * (across + down))


@pytest.mark.slow(minutes=0.3)
def test_training_reconstructs_and_standardises(tmp_path: Path) -> None:
    frames = pictures(64)
    features = np.zeros((64, 8, 8), bool)
    model = train_vae(frames, features, SMALL, seed=0)
    latents = model.encode_frames(frames)
    assert latents.shape == (64, SMALL.latent_channels, 8, 8)
    np.testing.assert_allclose(latents.mean((0, 2, 3)), 0, atol=0.05)
    np.testing.assert_allclose(latents.std((0, 2, 3)), 1, atol=0.05)
    error = np.square(model.decode_latents(torch.from_numpy(latents)).astype(float) - frames).mean()
    assert error < 0.1 * np.square(frames - frames.mean()).mean()
    model.save(tmp_path)
    np.testing.assert_array_equal(load_autoencoder(tmp_path).encode_frames(frames[:4]), model.encode_frames(frames[:4]))


def test_same_seed_same_weights() -> None:
    settings = SMALL.model_copy(update={"steps": 5})
    frames, features = pictures(16), np.ones((16, 8, 8), bool)
    first, again, other = (train_vae(frames, features, settings, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
