"""The diffusion process, eqs. 2-6: how noise is added, and what a network predicts.

By default the network predicts v = sqrt(abar) eps - sqrt(1 - abar) z0 (Salimans and Ho 2022): it is well posed at
every noise level, pure noise included, where eps-prediction is not; eps and z0 follow from it exactly. Weights of
Stable Diffusion predict eps, on their own schedule. Schedulers are those of `diffusers`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from training.settings import Prediction, Schedule

TRAIN_STEPS = 1000


@dataclass(frozen=True)
class Process:
    """A noise schedule, and the quantity that a network predicts on it.

    cosine            cosine betas that end in pure noise (Lin et al. 2024); sampling begins where training did.
    stable_diffusion  Stable Diffusion's own (Rombach et al. 2022): a fourteenth of the signal's scale is left at the
                      end, so an eps-prediction implies a clean latent at every timestep; pretrained weights expect it.
    """

    schedule: Schedule = "cosine"
    prediction: Prediction = "v"

    def make_scheduler(self) -> DDIMScheduler:
        """DDIM on this schedule, for networks with this prediction."""
        common = {
            "num_train_timesteps": TRAIN_STEPS,
            "prediction_type": "v_prediction" if self.prediction == "v" else "epsilon",
            "timestep_spacing": "trailing",
            "clip_sample": False,
            "set_alpha_to_one": True,  # the last step arrives at the clean latent
        }
        if self.schedule == "cosine":
            return DDIMScheduler(beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=True, **common)
        return DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, **common)

    def target(self, z0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What the network is to predict."""
        return velocity(z0, eps, t, self.schedule) if self.prediction == "v" else eps

    def to_eps(self, z_t: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """The noise that a prediction implies."""
        return to_eps(z_t, predicted, t, self.schedule) if self.prediction == "v" else predicted

    def to_z0(self, z_t: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """The clean latent that a prediction implies."""
        if self.prediction == "v":
            return to_z0(z_t, predicted, t, self.schedule)
        signal, noise = coefficients(t, z_t, self.schedule)
        return (z_t - noise * predicted) / signal

    def min_snr_weight(self, t: Tensor, gamma: float) -> Tensor:
        """Min-SNR-gamma weights of the loss (Hang et al. 2023, section 3.4), t [B] -> [B].

        With SNR = abar / (1 - abar) they are min(SNR, gamma) / (SNR + 1) for v and min(SNR, gamma) / SNR for eps.
        They are written so that pure noise causes no division by zero.
        """
        alpha_bar = _alphas_bar_on(t.device, self.schedule)[t]
        if self.prediction == "v":
            return torch.minimum(alpha_bar, gamma * (1 - alpha_bar))
        return (gamma * (1 - alpha_bar) / alpha_bar).clamp(max=1)

    def in_noise(self, predicted: Tensor, t: Tensor) -> Tensor:
        """A prediction as noise, up to a term that only z_t decides: eps_hat - eps = in_noise(v_hat) - in_noise(v)."""
        return coefficients(t, predicted, self.schedule)[0] * predicted if self.prediction == "v" else predicted


def make_scheduler() -> DDIMScheduler:
    """DDIM of the default process, for training and for sampling."""
    return Process().make_scheduler()


@functools.cache
def alphas_bar(schedule: Schedule = "cosine") -> Tensor:
    """abar_t for t = 0 .. 999, float32 [1000]."""
    return Process(schedule).make_scheduler().alphas_cumprod.float()


@functools.cache
def _alphas_bar_on(device: torch.device, schedule: Schedule) -> Tensor:
    """`alphas_bar`, cached on each device: a copy at every step would wait for the GPU to finish the last step."""
    return alphas_bar(schedule).to(device)


def coefficients(t: Tensor, like: Tensor, schedule: Schedule = "cosine") -> tuple[Tensor, Tensor]:
    """sqrt(abar_t) and sqrt(1 - abar_t) for t [B], shaped to multiply `like` [B, ...]."""
    alpha_bar = _alphas_bar_on(like.device, schedule)[t].view(-1, *([1] * (like.dim() - 1)))
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def add_noise(z0: Tensor, eps: Tensor, t: Tensor, schedule: Schedule = "cosine") -> Tensor:
    """Eq. 3: z_t = sqrt(abar) z0 + sqrt(1 - abar) eps."""
    signal, noise = coefficients(t, z0, schedule)
    return signal * z0 + noise * eps


def velocity(z0: Tensor, eps: Tensor, t: Tensor, schedule: Schedule = "cosine") -> Tensor:
    """v of a clean latent and its noise."""
    signal, noise = coefficients(t, z0, schedule)
    return signal * eps - noise * z0


def to_eps(z_t: Tensor, v: Tensor, t: Tensor, schedule: Schedule = "cosine") -> Tensor:
    """The noise that a predicted velocity implies."""
    signal, noise = coefficients(t, z_t, schedule)
    return signal * v + noise * z_t


def to_z0(z_t: Tensor, v: Tensor, t: Tensor, schedule: Schedule = "cosine") -> Tensor:
    """The clean latent that a predicted velocity implies."""
    signal, noise = coefficients(t, z_t, schedule)
    return signal * z_t - noise * v


def sample_noise(shape: tuple[int, ...], shared: float, generator: torch.Generator) -> Tensor:
    """Unit Gaussian noise [B, F, C, h, w]; a share `shared` of its variance is common to all frames.

    Frames that share noise start from the same place, so they do not flicker (Ge et al. 2023, PYoCo).
    """
    own = torch.randn(shape, generator=generator)
    common = torch.randn((shape[0], 1, *shape[2:]), generator=generator)
    return shared**0.5 * common + (1 - shared) ** 0.5 * own


def sample_timesteps(count: int, bias: float, generator: torch.Generator) -> Tensor:
    """Timesteps [count] in 0 .. 999, t = 1000 U**bias with U uniform; a bias below 1 favours high noise."""
    uniform = torch.rand(count, generator=generator)
    return (uniform**bias * TRAIN_STEPS).long().clamp(0, TRAIN_STEPS - 1)
