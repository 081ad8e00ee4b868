"""PSNR and SSIM against the two libraries that define them in practice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio as torch_psnr
from torchmetrics.functional.image import structural_similarity_index_measure as torch_ssim

from evaluation.metrics.arrays import Frames
from evaluation.metrics.fidelity import cut, psnr, ssim


@pytest.fixture
def pair() -> tuple[Frames, Frames]:
    """A smooth moving picture and a noisy copy of it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:48, 0:40]
    truth = np.stack([np.sin((x + 3 * t) / 5) + np.cos(y / 7) for t in range(3)])[..., None].repeat(3, axis=-1)
    truth = (truth - truth.min()) / np.ptp(truth) * 255
    noisy = truth + rng.normal(0, [[[[5]]], [[[15]]], [[[40]]]], truth.shape)
    return noisy.clip(0, 255).astype(np.uint8), truth.astype(np.uint8)


def _unit(frames: Frames) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).double() / 255


def test_psnr_is_the_libraries(pair: tuple[Frames, Frames]) -> None:
    generated, truth = pair
    values = psnr(generated, truth)
    library = [peak_signal_noise_ratio(t, g) for g, t in zip(generated, truth, strict=True)]
    np.testing.assert_allclose(values, library, rtol=1e-10)
    first = torch_psnr(_unit(generated[:1]), _unit(truth[:1]), data_range=1.0)
    assert values[0] == pytest.approx(float(first), rel=1e-6)
    assert values[0] > values[1] > values[2]
    assert np.isinf(psnr(truth, truth)).all()


def test_ssim_is_the_libraries(pair: tuple[Frames, Frames]) -> None:
    generated, truth = pair
    values = ssim(generated, truth)
    skimage = [
        structural_similarity(
            g,
            t,
            channel_axis=-1,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for g, t in zip(generated, truth, strict=True)
    ]
    np.testing.assert_allclose(values, skimage, atol=2e-4)
    _, maps = torch_ssim(_unit(generated), _unit(truth), data_range=1.0, return_full_image=True)
    inside = maps[:, :, 5:-5, 5:-5].mean(dim=(1, 2, 3))
    np.testing.assert_allclose(values, inside.numpy(), atol=2e-4)
    np.testing.assert_allclose(ssim(truth, truth), 1, atol=1e-9)


def test_only_the_box_counts(pair: tuple[Frames, Frames]) -> None:
    _, truth = pair
    spoiled = truth.copy()
    spoiled[:, :10] = 0
    assert np.isinf(psnr(cut(spoiled, (5, 10, 35, 40)), cut(truth, (5, 10, 35, 40)))).all()
    assert cut(truth, (5, 10, 35, 40)).shape == (3, 30, 30, 3)


def test_frames_of_other_shape_are_refused(pair: tuple[Frames, Frames]) -> None:
    generated, truth = pair
    with pytest.raises(AssertionError, match="differ in shape"):
        psnr(generated[:2], truth)
