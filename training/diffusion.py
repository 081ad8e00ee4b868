"""The diffusion process, eqs. 2-6, in velocity form.

The network predicts v = sqrt(abar) eps - sqrt(1 - abar) z0 (Salimans and Ho 2022): it is well posed at every
noise level, pure noise included, where eps-prediction is not; eps and z0 follow from it exactly. Schedulers are
those of `diffusers`.
"""

from __future__ import annotations

import functools

import torch
from diffusers import DDIMScheduler
from torch import Tensor

TRAIN_STEPS = 1000


def make_scheduler() -> DDIMScheduler:
    """DDIM on a cosine schedule that ends in pure noise (Lin et al. 2024), for training and for sampling."""
    return DDIMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


@functools.cache
def alphas_bar() -> Tensor:
    """abar_t for t = 0 .. 999, float32 [1000]."""
    return make_scheduler().alphas_cumprod.float()


def coefficients(t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(abar_t) and sqrt(1 - abar_t) for t [B], shaped to multiply `like` [B, ...]."""
    alpha_bar = alphas_bar().to(like.device)[t].view(-1, *([1] * (like.dim() - 1)))
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def add_noise(z0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Eq. 3: z_t = sqrt(abar) z0 + sqrt(1 - abar) eps."""
    signal, noise = coefficients(t, z0)
    return signal * z0 + noise * eps


def velocity(z0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """The network's target."""
    signal, noise = coefficients(t, z0)
    return signal * eps - noise * z0


def to_eps(z_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The noise that a predicted velocity implies."""
    signal, noise = coefficients(t, z_t)
    return signal * v + noise * z_t


def to_z0(z_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The clean latent that a predicted velocity implies."""
    signal, noise = coefficients(t, z_t)
    return signal * z_t - noise * v


def sample_noise(shape: tuple[int, ...], shared: float, generator: torch.Generator) -> Tensor:
    """Unit Gaussian noise [B, F, C, h, w] of which the variance share `shared` is common to all frames.

    Frames that share noise start from the same place, so they do not flicker (Ge et al. 2023, PYoCo).
    """
    own = torch.randn(shape, generator=generator)
    common = torch.randn((shape[0], 1, *shape[2:]), generator=generator)
    return shared**0.5 * common + (1 - shared) ** 0.5 * own


def sample_timesteps(count: int, bias: float, generator: torch.Generator) -> Tensor:
    """Timesteps [count] in 0 .. 999 from t = U**bias; bias below 1 favours high noise."""
    uniform = torch.rand(count, generator=generator)
    return (uniform**bias * TRAIN_STEPS).long().clamp(0, TRAIN_STEPS - 1)
