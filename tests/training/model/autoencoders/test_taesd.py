"""The real tiny autoencoder for FLUX.2's space: its figures are those that its files are known by."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from common.errors import CorruptFileError
from common.weights import registry as weights
from preparation.media.video import open_video
from training.model.autoencoders.base import Autoencoder, to_pixels
from training.model.autoencoders.sources import load_autoencoder, open_pretrained
from training.model.autoencoders.taesd import read_taesd


def psnr(shown: np.ndarray, true: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(shown.astype(float) - true).mean()))


@pytest.fixture(scope="module")
def taef2(weights_dir: Path) -> Autoencoder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
        return open_pretrained("taef2")


@pytest.mark.slow(minutes=0.1)
def test_codes_the_astronaut_as_published_files_do(taef2: Autoencoder) -> None:
    """31.19 dB in float32, measured on these files by their authors' own module."""
    data = pytest.importorskip("skimage.data")
    frame = data.astronaut()
    with torch.inference_mode():
        pixels = to_pixels(frame[None])
        error = (taef2.decode(taef2.encode(pixels)).clamp(0, 1) - pixels).square().mean()
    assert float(-10 * torch.log10(error)) == pytest.approx(31.19, abs=0.02)
    assert sum(value.numel() for value in taef2.parameters()) == 1_338_528 + 1_338_499


@pytest.mark.slow(minutes=0.2)
def test_codes_faces_of_real_clips(taef2: Autoencoder, clips_dir: Path, tmp_path: Path) -> None:
    """Seven of the 21 clips at 256 pixels, through bytes; over all 21 the mean is 35.2 dB and the least 31.8."""
    paths = sorted([*clips_dir.rglob("*.mp4"), *clips_dir.rglob("*.mpg")])[::3]
    frames = []
    for path in paths:
        frame = next(iter(open_video(path).frames()))
        side = min(frame.shape[:2])
        top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
        square = frame[top : top + side, left : left + side]
        frames.append(cv2.resize(square, (256, 256), interpolation=cv2.INTER_AREA))
    true = np.stack(frames)
    taef2.standardise(true)
    latents = taef2.encode_frames(true)
    assert latents.shape == (7, 32, 32, 32)
    np.testing.assert_allclose(latents.mean((0, 2, 3)), 0, atol=0.02)
    np.testing.assert_allclose(latents.std((0, 2, 3)), 1, atol=0.02)
    shown = taef2.decode_latents(torch.from_numpy(latents))
    figures = [psnr(*pair) for pair in zip(shown, true, strict=True)]
    assert np.mean(figures) > 34 and min(figures) > 31.5

    # A run's copy is the same network, and needs the files no more.
    taef2.save(tmp_path)
    copy = load_autoencoder(tmp_path)
    assert copy.downscale == 8 and copy.latent_channels == 32
    np.testing.assert_array_equal(copy.encode_frames(true[:1]), taef2.encode_frames(true[:1]))


def test_other_files_are_refused(weights_dir: Path, tmp_path: Path) -> None:
    broken = tmp_path / "taef2_encoder.pth"
    broken.write_bytes(b"PK no archive")
    decoder = weights_dir / "taef2_decoder.pth"
    with pytest.raises(CorruptFileError, match=r"taef2_encoder\.pth"):
        read_taesd(broken, decoder, {})
    with pytest.raises(CorruptFileError, match="TAESD"):
        read_taesd(weights_dir / "mobilefacenet.pt", decoder, {})
