"""Gradient inversion where the answer is known: a small backbone, one clip, and the draws in the attacker's hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from evaluation.attacks.inversion import Gaussian, OneFace, OwnFaces, Prior, Scene, gradient, invert
from tests.training.small_models import SHAPE, make_clip
from training.adapters.adapter import Adapter
from training.model.backbones.tiny import TinyBackbone
from training.model.data import ClipTensors, collate, window
from training.model.device import autocast, full_precision
from training.model.objective import Draw
from training.settings import AdapterSettings, BackboneSettings, ObjectiveSettings

OBJECTIVE = ObjectiveSettings()
SMALL = SHAPE.model_copy(update={"latent_size": 4})


def clip(seed: int) -> ClipTensors:
    """A face of white noise, every frame of which is its own."""
    made = make_clip(seed, shape=SMALL)
    generator = torch.Generator().manual_seed(seed)
    return replace(made, latents=made.latents + 0.5 * torch.randn(made.latents.shape, generator=generator))


def backbone() -> TinyBackbone:
    """One block whose zero-initialised layers are given weights."""
    torch.manual_seed(0)
    model = TinyBackbone(BackboneSettings(width=32, depth=1, heads=2, window=6), SMALL)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


class Victim:
    """A client's window, the adapter it steps from, and what the public split says of faces."""

    def __init__(self, seed: int = 3, t: int = 300) -> None:
        self.adapter = Adapter(backbone(), AdapterSettings(rank=8), 0)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():  # an adapter that was trained: both of its factors speak
            for name, parameter in zip(self.adapter.names, self.adapter.parameters, strict=True):
                if "lora_B" in name:
                    parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
        self.adapter.model.double()
        self.prior = Prior.of([clip(number) for number in range(10, 60)]).to(torch.float64)
        batch = collate([window(clip(seed), 2, 2)])
        draw = Draw(Draw.sample(batch.latents, OBJECTIVE, generator).eps, torch.tensor([t]))
        self.scene = Scene(batch, draw).to(torch.float64)

    @property
    def blank(self) -> Scene:
        shown = self.scene.window
        zeros = {name: torch.zeros_like(getattr(shown, name)) for name in ("latents", "reference")}
        return Scene(replace(shown, **zeros), self.scene.draw)

    def gradient(self) -> Tensor:
        return gradient(self.adapter.backbone, self.adapter.parameters, self.scene.window, self.scene.draw, OBJECTIVE)

    def invert(self, observed: Tensor, trust: float, steps: int) -> tuple[float, float]:
        """Relative square error of the reference that is found, and that of the mean face."""
        guess = OwnFaces([self.blank], self.prior)
        before = guess.references()
        found = invert(
            self.adapter.backbone, self.adapter.parameters, observed, guess, [self.scene.draw], OBJECTIVE, trust, steps
        )
        return self.error(found.references), self.error(before)

    def error(self, reference: Tensor) -> float:
        truth = self.scene.window.reference
        return float((reference - truth).square().sum() / truth.square().sum())


@pytest.fixture(scope="module")
def victim() -> Victim:
    return Victim()


@pytest.mark.slow(minutes=0.1)
def test_with_the_draws_known_one_raw_update_gives_the_face_away(victim: Victim) -> None:
    found, before = victim.invert(victim.gradient(), trust=1e9, steps=150)
    assert before > 0.9  # faces here are white noise: the mean tells nothing
    assert found < 0.01


def test_the_search_leaves_a_start_whose_gradient_is_at_right_angles_to_the_observed_one(victim: Victim) -> None:
    raw, guess = victim.gradient(), OwnFaces([victim.blank], victim.prior)
    (mean_window,) = guess.windows()
    backbone, parameters = victim.adapter.backbone, victim.adapter.parameters
    first = gradient(backbone, parameters, mean_window, victim.scene.draw, OBJECTIVE).detach()
    observed = raw - first * (raw @ first) / (first @ first)
    found = invert(backbone, parameters, observed, guess, [victim.scene.draw], OBJECTIVE, 1e9, 15)
    assert found.cosine > 0.5
    assert found.start == pytest.approx(0, abs=1e-6) and not found.stalled


def test_a_search_that_does_not_move_has_stalled(victim: Victim) -> None:
    guess = OwnFaces([victim.blank], victim.prior)
    parameters, draws = victim.adapter.parameters, [victim.scene.draw]
    found = invert(victim.adapter.backbone, parameters, victim.gradient(), guess, draws, OBJECTIVE, 1e-9, 3)
    assert found.cosine == pytest.approx(found.start, abs=1e-3) and found.stalled


def test_noise_tells_nothing_and_is_not_taken_for_a_face(victim: Victim) -> None:
    noise = torch.randn(len(victim.adapter), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found, before = victim.invert(noise, trust=len(noise) / 2, steps=15)
    assert found > 0.9 * before


def test_under_noise_ten_times_its_length_the_update_keeps_its_face(victim: Victim) -> None:
    """The planted control: the same attack that succeeds on the raw update fails on what is sent."""
    raw = victim.gradient()
    noise = torch.randn(len(raw), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    noisy = raw / raw.norm() + 10 * noise / noise.norm()
    found, before = victim.invert(noisy, trust=len(raw) / 2, steps=15)
    assert found > 0.8 * before


def test_the_attack_reads_no_picture_of_the_window_it_attacks(victim: Victim) -> None:
    """What stands in `latents` and `reference` of a scene that is attacked with known draws is not used."""
    observed = victim.gradient()
    errors = []
    for scene in (victim.blank, victim.scene):
        guess = OwnFaces([scene], victim.prior)
        found = invert(
            victim.adapter.backbone, victim.adapter.parameters, observed, guess, [scene.draw], OBJECTIVE, 1e6, 3
        )
        errors.append(victim.error(found.references))
    assert errors[0] == errors[1]


def test_a_scaled_update_leaks_what_the_update_leaks(victim: Victim) -> None:
    """Clipping and weighing change the length alone, which the attack does not look at."""
    raw = victim.gradient()
    assert victim.invert(0.01 * raw, 1e6, 5) == pytest.approx(victim.invert(raw, 1e6, 5), rel=1e-6)


def test_one_face_starts_at_the_public_mean_and_keeps_the_scenes_motion(victim: Victim) -> None:
    scenes = [victim.scene, Victim(seed=4).scene]
    guess = OneFace(scenes, victim.prior)
    for scene, made in zip(scenes, guess.windows(), strict=True):
        torch.testing.assert_close(made.reference[0], victim.prior.face.mean)
        moved = scene.window.latents - scene.window.reference[:, None]
        torch.testing.assert_close(made.latents - made.reference[:, None], moved)


def test_whitened_coordinates_have_the_public_covariance() -> None:
    values = torch.randn(4000, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values[:, 0, 0, 0] *= 3
    fitted = Gaussian.of(values)
    drawn = fitted.at(torch.randn(4000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    spread = values.flatten(1).var(0)
    torch.testing.assert_close(drawn.flatten(1).var(0), spread + 0.1 * spread.mean(), rtol=0.1, atol=0.02)


def test_full_precision_turns_autocast_off() -> None:
    product = torch.eye(8)
    with full_precision(), autocast(torch.device("cpu")):
        assert (product @ product).dtype == torch.float32
