"""The objective's terms against eq. 6 and eq. 8 written out by hand, and its gradients."""

from __future__ import annotations

import torch
from torch import nn

from training.model.backbones.tiny import TinyBackbone
from training.model.data import Batch
from training.model.diffusion import Process, add_noise, alphas_bar, to_eps, velocity
from training.model.objective import (
    Draw,
    denoising_loss,
    feature_weight,
    local_objective,
    temporal_denoising_consistency,
)
from training.settings import ObjectiveSettings


def draw_for(batch: Batch, settings: ObjectiveSettings, seed: int = 3) -> Draw:
    return Draw.sample(batch.latents, settings, torch.Generator().manual_seed(seed))


def test_tdc_equals_equation_8_written_as_loops() -> None:
    eps_hat, eps = torch.randn(2, 5, 4, 3, 3), torch.randn(2, 5, 4, 3, 3)
    terms = []
    for clip in range(2):
        for f in range(4):
            predicted = eps_hat[clip, f + 1] - eps_hat[clip, f]
            injected = eps[clip, f + 1] - eps[clip, f]
            terms.append((predicted - injected).abs().mean())
    torch.testing.assert_close(temporal_denoising_consistency(eps_hat, eps), torch.stack(terms).mean())


def test_tdc_ignores_an_error_that_all_frames_share_and_sees_one_that_flickers() -> None:
    eps = torch.randn(2, 6, 4, 8, 8)
    constant = torch.randn(2, 1, 4, 8, 8)
    assert float(temporal_denoising_consistency(eps + constant, eps)) < 1e-6
    assert float(temporal_denoising_consistency(eps + torch.randn_like(eps), eps)) > 0.5


def test_unweighted_denoising_loss_is_equation_6_over_alpha_bar() -> None:
    z0, eps, v_hat = (torch.randn(3, 2, 4, 8, 8, dtype=torch.float64) for _ in range(3))
    t = torch.tensor([100, 500, 800])
    v, z_t = velocity(z0, eps, t), add_noise(z0, eps, t)
    eq6 = (to_eps(z_t, v_hat, t) - eps).square().mean(dim=(1, 2, 3, 4)) / alphas_bar()[t]
    weight = torch.ones(3, 2, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(denoising_loss(v_hat, v, weight), eq6.mean(), rtol=1e-6, atol=1e-8)


def test_feature_weight_has_mean_one_and_looks_at_the_mouth(batch: Batch) -> None:
    weight = feature_weight(batch, ObjectiveSettings(mouth_weight=9))
    torch.testing.assert_close(weight.mean(), torch.tensor(1.0))
    torch.testing.assert_close(weight[batch.mouth == 1].mean() / weight[batch.mouth == 0].mean(), torch.tensor(9.0))


def test_total_is_the_weighted_sum(backbone: TinyBackbone, batch: Batch) -> None:
    settings = ObjectiveSettings(tdc_weight=0.3)
    losses = local_objective(backbone, batch, draw_for(batch, settings), settings)
    torch.testing.assert_close(losses.total, losses.denoising + 0.3 * losses.tdc)


def test_tdc_of_the_objective_is_that_of_the_implied_noise(backbone: TinyBackbone, batch: Batch) -> None:
    settings = ObjectiveSettings(noise_bias=1.0)
    draw = draw_for(batch, settings)
    z0 = backbone.to_diffused(batch.latents, batch.reference)
    z_t = add_noise(z0, draw.eps, draw.t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        v_hat = backbone(z_t, draw.t, batch.speech, batch.reference, batch.motion).float()
    expected = temporal_denoising_consistency(to_eps(z_t, v_hat, draw.t), draw.eps)
    losses = local_objective(backbone, batch, draw, settings)
    torch.testing.assert_close(losses.tdc, expected, rtol=2e-2, atol=1e-4)


def test_gradients_match_finite_differences() -> None:
    """Both terms, through float64 tensors small enough to differentiate numerically."""
    v_hat = torch.randn(2, 4, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    v = torch.randn_like(v_hat)
    weight = torch.rand(2, 4, 2, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: denoising_loss(x, v, weight), v_hat)
    assert torch.autograd.gradcheck(lambda x: temporal_denoising_consistency(x, v), v_hat)


def test_every_parameter_learns(backbone: TinyBackbone, batch: Batch) -> None:
    settings = ObjectiveSettings()
    local_objective(backbone, batch, draw_for(batch, settings), settings).total.backward()
    idle = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_same_draw_same_loss(backbone: nn.Module, batch: Batch) -> None:
    assert isinstance(backbone, TinyBackbone)
    settings = ObjectiveSettings()
    first, second = (local_objective(backbone, batch, draw_for(batch, settings), settings).total for _ in range(2))
    assert first.item() == second.item()


def test_min_snr_weights_are_those_of_the_paper() -> None:
    t, gamma = torch.tensor([1, 100, 500, 900]), 5.0
    for process in (Process(), Process("stable_diffusion", "epsilon")):
        abar = alphas_bar(process.schedule)[t].double()
        snr = abar / (1 - abar)
        expected = snr.clamp(max=gamma) / (snr + 1 if process.prediction == "v" else snr)
        torch.testing.assert_close(process.min_snr_weight(t, gamma).double(), expected, rtol=1e-4, atol=1e-7)
    assert float(Process().min_snr_weight(torch.tensor([999]), gamma)) == 0


def test_min_snr_weighs_each_window_by_its_own_timestep(backbone: TinyBackbone, batch: Batch) -> None:
    settings = ObjectiveSettings(min_snr_gamma=5.0)
    draw = draw_for(batch, settings)
    whole = local_objective(backbone, batch, draw, settings).denoising
    weight = feature_weight(batch, settings)
    plain = [
        local_objective(backbone, batch.part(cut), draw.part(cut), ObjectiveSettings(), weight=weight[cut]).denoising
        for cut in (slice(i, i + 1) for i in range(len(batch.latents)))
    ]
    expected = (torch.stack(plain) * backbone.process.min_snr_weight(draw.t, 5.0)).mean()
    torch.testing.assert_close(whole, expected, rtol=2e-2, atol=1e-4)


def test_dropped_windows_are_shown_zeros_and_the_draws_stay(batch: Batch) -> None:
    plain, dropping = ObjectiveSettings(), ObjectiveSettings(drop_speech=0.5, drop_identity=0.2)
    many = torch.zeros(400, 1, 1, 1, 1)
    drawn = Draw.sample(many, dropping, torch.Generator().manual_seed(3))
    assert torch.equal(drawn.eps, Draw.sample(many, plain, torch.Generator().manual_seed(3)).eps)
    assert drawn.heard is not None and drawn.seen is not None
    assert abs(float(drawn.heard.float().mean()) - 0.5) < 0.1
    assert abs(float(drawn.seen.float().mean()) - 0.8) < 0.1
    masks = Draw(torch.zeros_like(batch.latents), torch.zeros(3).long(), torch.tensor([True, False, True]))
    speech, reference = masks.shown(batch)
    assert not speech[1].any()
    assert torch.equal(speech[0], batch.speech[0])
    assert torch.equal(reference, batch.reference)
