"""The diffusion process against its closed form and against diffusers."""

from __future__ import annotations

import pytest
import torch

from training.model import diffusion
from training.model.diffusion import Process

PROCESSES = [Process("cosine", "v"), Process("stable_diffusion", "v"), Process("stable_diffusion", "epsilon")]


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_every_prediction_gives_back_noise_and_signal(process: Process) -> None:
    generator = torch.Generator().manual_seed(0)
    z0, eps = (torch.randn(6, 3, 4, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0, 10, 400, 700, 990, 999])
    z_t, predicted = diffusion.add_noise(z0, eps, t, process.schedule), process.target(z0, eps, t)
    torch.testing.assert_close(process.to_z0(z_t, predicted, t), z0, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(process.to_eps(z_t, predicted, t), eps, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_signal_and_noise_of_any_prediction_make_up_z_t_and_errors_are_errors_of_noise(process: Process) -> None:
    """Of a wrong prediction too: z_t = signal z0_hat + noise eps_hat, and eps_hat - eps follows from the error."""
    generator = torch.Generator().manual_seed(1)
    z0, eps, error = (torch.randn(5, 2, 4, 8, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    t = torch.tensor([1, 300, 600, 900, 999])
    z_t, target = diffusion.add_noise(z0, eps, t, process.schedule), process.target(z0, eps, t)
    predicted = target + error
    signal, noise = diffusion.coefficients(t, z0, process.schedule)
    eps_hat = process.to_eps(z_t, predicted, t)
    torch.testing.assert_close(signal * process.to_z0(z_t, predicted, t) + noise * eps_hat, z_t, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(
        process.in_noise(predicted, t) - process.in_noise(target, t), eps_hat - eps, atol=1e-6, rtol=1e-6
    )


def test_velocity_and_epsilon_say_the_same_on_one_schedule() -> None:
    generator = torch.Generator().manual_seed(2)
    z_t, eps_hat = (torch.randn(4, 2, 4, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0, 250, 750, 999])
    by_epsilon, by_velocity = Process("stable_diffusion", "epsilon"), Process("stable_diffusion", "v")
    z0_hat = by_epsilon.to_z0(z_t, eps_hat, t)
    v_hat = by_velocity.target(z0_hat, eps_hat, t)
    torch.testing.assert_close(by_velocity.to_z0(z_t, v_hat, t), z0_hat, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(by_velocity.to_eps(z_t, v_hat, t), eps_hat, atol=1e-6, rtol=1e-6)


def test_the_schedule_of_stable_diffusion_is_the_published_one() -> None:
    alpha_bar = diffusion.alphas_bar("stable_diffusion")
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    torch.testing.assert_close(alpha_bar.double(), (1 - betas).cumprod(0), atol=1e-6, rtol=1e-4)
    assert abs(float(alpha_bar[-1]) - 0.00466) < 1e-4


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_sampling_with_the_true_prediction_recovers_the_clip(process: Process) -> None:
    """If the network knew the answer, every number of DDIM steps would arrive at it."""
    z0 = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    scheduler = process.make_scheduler()
    scheduler.set_timesteps(8)
    z_t = torch.randn(z0.shape, generator=torch.Generator().manual_seed(4))
    for t in scheduler.timesteps:
        signal, noise = diffusion.coefficients(t.view(1), z0, process.schedule)
        eps = (z_t - signal * z0) / noise
        z_t = scheduler.step(process.target(z0, eps, t.view(1)), t, z_t).prev_sample
    torch.testing.assert_close(z_t, z0, atol=1e-3, rtol=1e-3)


def test_agrees_with_diffusers() -> None:
    scheduler = diffusion.make_scheduler()
    z0, eps = torch.randn(5, 2, 4, 8, 8), torch.randn(5, 2, 4, 8, 8)
    t = torch.tensor([1, 250, 500, 900, 999])
    torch.testing.assert_close(diffusion.add_noise(z0, eps, t), scheduler.add_noise(z0, eps, t))
    torch.testing.assert_close(diffusion.velocity(z0, eps, t), scheduler.get_velocity(z0, eps, t))


def test_schedule_ends_in_pure_noise() -> None:
    alpha_bar = diffusion.alphas_bar()
    assert alpha_bar[-1] == 0
    assert alpha_bar[0] > 0.999
    assert bool((alpha_bar[1:] < alpha_bar[:-1]).all())


def test_shared_noise_has_unit_variance_and_the_stated_correlation() -> None:
    generator = torch.Generator().manual_seed(1)
    noise = diffusion.sample_noise((64, 2, 4, 16, 16), 0.3, generator)
    assert abs(float(noise.var()) - 1) < 0.02
    assert abs(float((noise[:, 0] * noise[:, 1]).mean()) - 0.3) < 0.02


def test_timestep_bias_favours_noise() -> None:
    generator = torch.Generator().manual_seed(2)
    t = diffusion.sample_timesteps(20000, 0.5, generator).float()
    assert abs(float(t.mean()) / 1000 - 1 / 1.5) < 0.01  # E[U**b] = 1 / (1 + b)
    assert t.min() >= 0
    assert t.max() <= 999
