"""The objective's terms on decoded frames: the gate, eq. 9 to 11 by hand, gradients against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.training.small_models import SHAPE
from training.adapters.adapter import Adapter
from training.model.backbones.tiny import TinyBackbone
from training.model.data import Batch
from training.model.diffusion import add_noise, alphas_bar, velocity
from training.model.frozen.pixel_terms import PixelTerms, noise_gate, spread_frames
from training.model.frozen.rulers import IdentityRuler, OpeningRuler
from training.model.frozen.terms import Decoded, IdentityTerm, MouthMotionTerm, RulerFeaturesTerm
from training.model.objective import Draw, Losses, local_objective
from training.settings import (
    AdapterSettings,
    DecodedSettings,
    IdentityTermSettings,
    ObjectiveSettings,
    PerceptualTermSettings,
    SyncTermSettings,
)

ALL_TERMS = ObjectiveSettings(
    identity=IdentityTermSettings(network="ruler"),
    perceptual=PerceptualTermSettings(network="ruler"),
    sync=SyncTermSettings(network="ruler"),
)
LOW, HIGH = 100, 900
"""Timesteps with abar 0.97 and 0.02."""


@pytest.fixture
def decoder() -> nn.Module:
    """A decoder of random weights that keeps its precision: latents [N, 4, 8, 8] to frames [N, 3, 64, 64]."""
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Conv2d(SHAPE.latent_channels, 3 * 64, 3, padding=1), nn.PixelShuffle(8), nn.Sigmoid())
    return layers.requires_grad_(False)


@pytest.fixture
def networks() -> dict[str, nn.Module]:
    torch.manual_seed(2)
    identity, opening = IdentityRuler(width=8, embedding=8).frozen(), OpeningRuler(width=8, scale=0.3).frozen()
    return {
        "identity": IdentityTerm(identity),
        "perceptual": RulerFeaturesTerm(identity, opening),
        "sync": MouthMotionTerm(opening),
    }


@pytest.fixture
def pixel_terms(decoder: nn.Module, networks: dict[str, nn.Module]) -> PixelTerms:
    return PixelTerms(decoder, networks, DecodedSettings(frames=2))


def draw_at(batch: Batch, *timesteps: int) -> Draw:
    eps = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(4)).to(batch.latents)
    return Draw(eps, torch.tensor(timesteps))


def in_float64(batch: Batch) -> Batch:
    return batch.changed(torch.Tensor.double)


class Counting:
    """A decoder that remembers how many frames it was asked for."""

    def __init__(self, decoder: nn.Module) -> None:
        self.decoder, self.frames = decoder, 0

    def __call__(self, latents: Tensor) -> Tensor:
        self.frames += len(latents)
        return self.decoder(latents)


def test_gate_is_alpha_bar_above_the_limit_and_nothing_below() -> None:
    t = torch.arange(1000)
    gate = noise_gate(t, 0.5)
    torch.testing.assert_close(gate[gate > 0], alphas_bar()[alphas_bar() >= 0.5])
    assert not gate[alphas_bar() < 0.5].any()
    assert torch.equal(noise_gate(t, 0.0), alphas_bar())


def test_frames_are_spread_over_the_window() -> None:
    assert spread_frames(8, 2).tolist() == [2, 6]
    assert spread_frames(8, 1).tolist() == [4]
    assert spread_frames(3, 9).tolist() == [0, 1, 2]


def test_without_low_noise_the_terms_are_exactly_zero_and_nothing_is_decoded(
    backbone: TinyBackbone, batch: Batch, decoder: nn.Module, networks: dict[str, nn.Module]
) -> None:
    counting = Counting(decoder)
    terms = PixelTerms(counting, networks, DecodedSettings())
    draw = draw_at(batch, HIGH, HIGH, HIGH)
    losses = local_objective(backbone, batch, draw, ALL_TERMS, terms)
    assert {name: loss.item() for name, loss in losses.pixel.items()} == {"identity": 0, "perceptual": 0, "sync": 0}
    assert counting.frames == 0
    assert losses.total.item() == local_objective(backbone, batch, draw, ALL_TERMS).total.item()


def test_only_low_noise_is_decoded_and_no_more_frames_than_asked(
    backbone: TinyBackbone, batch: Batch, decoder: nn.Module, networks: dict[str, nn.Module]
) -> None:
    counting = Counting(decoder)
    terms = PixelTerms(counting, networks, DecodedSettings(frames=2))
    local_objective(backbone, batch, draw_at(batch, HIGH, LOW, HIGH), ALL_TERMS, terms)
    assert counting.frames == 2 + 2 + 1  # generated, true, reference


def test_a_sample_outside_the_gate_moves_no_term(backbone: TinyBackbone, batch: Batch, pixel_terms: PixelTerms) -> None:
    first = local_objective(backbone, batch, draw_at(batch, LOW, HIGH, LOW), ALL_TERMS, pixel_terms)
    other = batch.latents.clone()
    other[1] += 1
    changed = Batch(**{**vars(batch), "latents": other})
    second = local_objective(backbone, changed, draw_at(batch, LOW, HIGH, LOW), ALL_TERMS, pixel_terms)
    assert first.denoising.item() != second.denoising.item()
    for name, loss in first.pixel.items():
        torch.testing.assert_close(second.pixel[name], loss, rtol=2e-2, atol=1e-5)


def test_a_perfect_prediction_decodes_to_the_true_frames(
    backbone: TinyBackbone, batch: Batch, decoder: nn.Module
) -> None:
    """v instead of v_hat gives back z0: what was diffused is undone in the units it was diffused in."""
    backbone.residual_std.fill_(1.7)
    seen: list[Decoded] = []

    class Watch(nn.Module):
        def forward(self, decoded: Decoded) -> Tensor:
            seen.append(decoded)
            return decoded.generated.mean((1, 2, 3, 4))

    terms = PixelTerms(decoder, {"watch": Watch()}, DecodedSettings(frames=3))
    draw = draw_at(batch, LOW, 200, 300)
    z0 = backbone.to_diffused(batch.latents, batch.reference)
    terms(backbone, batch, add_noise(z0, draw.eps, draw.t), velocity(z0, draw.eps, draw.t), draw.t)
    (decoded,) = seen
    torch.testing.assert_close(decoded.generated, decoded.true, rtol=1e-4, atol=1e-4)
    frames = spread_frames(6, 3)
    expected = torch.stack([decoder(clip[frames]) for clip in batch.latents])
    torch.testing.assert_close(decoded.true, expected)
    torch.testing.assert_close(decoded.reference, decoder(batch.reference))


def some_frames(decoder: nn.Module) -> Decoded:
    latents = torch.randn(3, 2, SHAPE.latent_channels, 8, 8, generator=torch.Generator().manual_seed(6))
    return Decoded(decoder, latents, latents.flip(1) + 0.3, latents[:, 0] * 0.5)


def test_identity_is_equation_9(decoder: nn.Module, networks: dict[str, nn.Module]) -> None:
    decoded, term = some_frames(decoder), networks["identity"]
    assert isinstance(term, IdentityTerm)
    for clip, loss in enumerate(term(decoded)):
        reference = term.embedder(decoded.reference[clip : clip + 1])[0]
        cosines = [torch.cosine_similarity(e, reference, dim=0) for e in term.embedder(decoded.generated[clip])]
        torch.testing.assert_close(loss, 1 - (cosines[0] + cosines[1]) / 2)


def test_sync_is_the_squared_error_of_the_opening(decoder: nn.Module, networks: dict[str, nn.Module]) -> None:
    decoded, term = some_frames(decoder), networks["sync"]
    assert isinstance(term, MouthMotionTerm)
    for clip, loss in enumerate(term(decoded)):
        error = (term.opening(decoded.generated[clip]) - term.opening(decoded.true[clip])) / 0.3
        torch.testing.assert_close(loss, error.square().mean())


@pytest.mark.parametrize("name", ["perceptual", "sync"])
def test_true_frames_cost_nothing(decoder: nn.Module, networks: dict[str, nn.Module], name: str) -> None:
    latents = torch.randn(3, 2, SHAPE.latent_channels, 8, 8)
    same = Decoded(decoder, latents, latents, latents[:, 0])
    assert networks[name](same).abs().max() < 1e-10
    assert networks[name](some_frames(decoder)).min() > 1e-6


@pytest.mark.parametrize("name", ["total", "denoising", "tdc", "identity", "perceptual", "sync"])
def test_gradient_by_the_adapter_is_that_of_finite_differences(
    backbone: TinyBackbone, batch: Batch, pixel_terms: PixelTerms, name: str
) -> None:
    """Every term, through decoder, diffusion and backbone, in float64, along random directions in the adapter."""
    adapter = Adapter(backbone, AdapterSettings(rank=2), seed=0)
    model = adapter.backbone.double()
    assert isinstance(model, TinyBackbone)
    assert isinstance(pixel_terms.decode, nn.Module)
    pixel_terms.decode.double()
    for term in pixel_terms.terms.values():
        term.double()
    generator = torch.Generator().manual_seed(8)
    for parameter in adapter.parameters:
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    double, draw = in_float64(batch), draw_at(in_float64(batch), LOW, 300, HIGH)

    def loss() -> Tensor:
        return local_objective(model, double, draw, ALL_TERMS, pixel_terms).by_name()[name]

    gradients = torch.autograd.grad(loss(), adapter.parameters)
    for _ in range(3):
        direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in adapter.parameters]
        slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
        step, values = 1e-6, []
        for sign in (1, -2, 1):
            for parameter, along in zip(adapter.parameters, direction, strict=True):
                parameter.data += sign * step * along
            values.append(float(loss().detach()))
        measured = (values[0] - values[1]) / (2 * step)
        assert measured == pytest.approx(float(slope), rel=1e-5)
        assert abs(measured) > 1e-5


def test_weights_and_switches(backbone: TinyBackbone, batch: Batch, pixel_terms: PixelTerms) -> None:
    settings = ObjectiveSettings(
        denoising_weight=0.5,
        tdc_weight=0.3,
        identity=IdentityTermSettings(network="ruler", weight=0.7),
        perceptual=PerceptualTermSettings(network="ruler", weight=0.2),
        sync=SyncTermSettings(network="ruler", weight=0.4),
    )
    losses = local_objective(backbone, batch, draw_at(batch, LOW, 300, HIGH), settings, pixel_terms)
    pixel = losses.pixel
    expected = 0.5 * losses.denoising + 0.3 * losses.tdc
    expected = expected + 0.7 * pixel["identity"] + 0.2 * pixel["perceptual"] + 0.4 * pixel["sync"]
    torch.testing.assert_close(losses.total, expected)
    assert ObjectiveSettings().pixel_weights() == {}
    assert settings.in_pretraining() == ObjectiveSettings(denoising_weight=0.5, tdc_weight=0.3)
    half = ObjectiveSettings(
        identity=IdentityTermSettings(network="ruler", weight=0), sync=SyncTermSettings(network="ruler")
    )
    assert half.pixel_weights() == {"sync": 0.05}


@pytest.mark.parametrize("name", ["identity", "perceptual", "sync"])
def test_a_term_lowers_itself_over_local_steps(
    backbone: TinyBackbone, batch: Batch, decoder: nn.Module, networks: dict[str, nn.Module], name: str
) -> None:
    """Gradient descent on one term alone, at fixed noise, goes down further than the denoising loss takes it."""
    draw = draw_at(batch, LOW, 300, 350)
    terms = PixelTerms(decoder, {name: networks[name]}, DecodedSettings(frames=6))
    start = backbone.state_dict()

    def train(objective: Callable[[Losses], Tensor]) -> float:
        model = TinyBackbone(backbone.settings, backbone.shape)
        model.load_state_dict(start)
        adapter = Adapter(model.requires_grad_(False), AdapterSettings(rank=2), seed=0)
        adapted = adapter.backbone
        assert isinstance(adapted, TinyBackbone)
        optimizer = torch.optim.AdamW(adapter.parameters, lr=5e-3)
        for _ in range(12):
            losses = local_objective(adapted, batch, draw, ALL_TERMS, terms)
            optimizer.zero_grad()
            objective(losses).backward()
            optimizer.step()
        return local_objective(adapted, batch, draw, ALL_TERMS, terms).pixel[name].item()

    before = local_objective(backbone, batch, draw, ALL_TERMS, terms).pixel[name].item()
    with_term = train(lambda losses: losses.pixel[name])
    without = train(lambda losses: losses.denoising)
    assert math.isfinite(with_term)
    assert with_term < 0.9 * before
    assert with_term < without
