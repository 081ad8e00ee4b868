"""The diffusion process against its closed form and against diffusers."""

from __future__ import annotations

import torch

from training import diffusion


def test_velocity_gives_back_noise_and_signal() -> None:
    generator = torch.Generator().manual_seed(0)
    z0, eps = (torch.randn(6, 3, 4, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0, 10, 400, 700, 990, 999])
    z_t, v = diffusion.add_noise(z0, eps, t), diffusion.velocity(z0, eps, t)
    torch.testing.assert_close(diffusion.to_z0(z_t, v, t), z0, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(diffusion.to_eps(z_t, v, t), eps, atol=1e-6, rtol=1e-6)


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


def test_sampling_with_the_true_velocity_recovers_the_clip() -> None:
    """If the network knew the answer, every number of DDIM steps would arrive at it."""
    z0 = torch.randn(1, 4, 4, 8, 8)
    scheduler = diffusion.make_scheduler()
    scheduler.set_timesteps(8)
    z_t = torch.randn_like(z0)
    for t in scheduler.timesteps:
        signal, noise = diffusion.coefficients(t.view(1), z0)
        v = signal * (z_t - signal * z0) / noise - noise * z0
        z_t = scheduler.step(v, t, z_t).prev_sample
    torch.testing.assert_close(z_t, z0, atol=1e-3, rtol=1e-3)


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
