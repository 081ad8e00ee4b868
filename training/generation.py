"""From a reference picture and speech to frames: few-step sampling over overlapping windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.autoencoders.base import Autoencoder
from training.backbone.interface import Backbone
from training.device import autocast
from training.diffusion import sample_noise
from training.samplers import make_sampler
from training.settings import GenerationSettings


@dataclass(frozen=True)
class Generator:
    """A backbone (with or without an adapter inside it) and the autoencoder that turns latents into frames."""

    backbone: Backbone
    vae: Autoencoder
    settings: GenerationSettings
    shared_noise: float

    @torch.inference_mode()
    def latents(self, reference: Tensor, speech: Tensor, seed: int, motion: Tensor | None = None) -> Tensor:
        """Sample latents [T, C, h, w].

        reference [C, h, w] latent; speech [T, S, D]; motion [T, M] relative to the reference, by default zero:
        the head rests as in the reference and only speech moves it.
        """
        frames, shape = len(speech), self.backbone.shape
        window = self.backbone.settings.window
        speech = _at_least(speech, window)
        motion = speech.new_zeros(len(speech), shape.motion_dim) if motion is None else _at_least(motion, window)
        starts = window_starts(len(speech), window, self.settings.overlap)
        blend = blending_weights(starts, len(speech), window).to(reference.device)
        generator = torch.Generator().manual_seed(seed)
        size = (1, len(speech), shape.latent_channels, shape.latent_size, shape.latent_size)
        z_t = sample_noise(size, self.shared_noise, generator)[0].to(reference.device)
        scheduler = make_sampler(self.settings.sampler, self.backbone.process, self.settings.steps)
        cuts = [slice(start, start + window) for start in starts]
        heard = torch.stack([speech[cut] for cut in cuts])
        moved = torch.stack([motion[cut] for cut in cuts])
        still = reference.expand(len(cuts), -1, -1, -1)
        for t in scheduler.timesteps:
            with autocast(reference.device):
                noisy = torch.stack([z_t[cut] for cut in cuts])
                predicted = self._predict(noisy, t.expand(len(cuts)).to(reference.device), heard, still, moved)
            # Windows agree on shared frames by averaging their predictions at every step, so no seam can form.
            merged = torch.zeros_like(z_t)
            for number, cut in enumerate(cuts):
                merged[cut] += blend[number, :, None, None, None] * predicted[number].float()
            z_t = scheduler.step(merged, t, z_t).prev_sample
        return self.backbone.to_latents(z_t[None], reference[None])[0, :frames]

    def _predict(self, noisy: Tensor, t: Tensor, heard: Tensor, still: Tensor, moved: Tensor) -> Tensor:
        """The backbone's prediction for windows, guided by speech and reference as the settings say.

        With all conditions, without speech, and without speech and reference it predicts p_all, p_mute and p_none; the
        guided prediction is p_none + g_identity (p_mute - p_none) + g_speech (p_all - p_mute), as Brooks et al. 2023,
        eq. 3, combine two conditions.
        """
        speech, identity = self.settings.speech_guidance, self.settings.identity_guidance
        if speech == identity == 1:
            return self.backbone(noisy, t, heard, still, moved)
        shown = [(heard, still), (torch.zeros_like(heard), still)]
        if identity != 1:
            shown.append((torch.zeros_like(heard), torch.zeros_like(still)))
        times = len(shown)
        conditions = [torch.cat(column) for column in zip(*shown, strict=True)]
        everything = self.backbone(
            noisy.repeat(times, 1, 1, 1, 1), t.repeat(times), *conditions, moved.repeat(times, 1, 1)
        )
        all_of_them, mute, *none = everything.chunk(times)
        guided = mute + speech * (all_of_them - mute)
        return guided + (identity - 1) * (mute - none[0]) if none else guided

    def frames(
        self, reference: Tensor, speech: Tensor, seed: int, motion: Tensor | None = None
    ) -> npt.NDArray[np.uint8]:
        """Sample and decode: uint8 [T, H, W, 3]. Arguments as for `latents`."""
        return self.vae.decode_latents(self.latents(reference, speech, seed, motion))


def window_starts(frames: int, window: int, overlap: int) -> list[int]:
    """Where windows begin so that they cover all frames, the last one ending at the last frame."""
    stride = max(1, window - overlap)
    starts = list(range(0, frames - window + 1, stride))
    if starts[-1] != frames - window:
        starts.append(frames - window)
    return starts


def blending_weights(starts: list[int], frames: int, window: int) -> Tensor:
    """Weight of each window's frame [windows, window]; a triangle, normalised to sum to one at every frame."""
    ramp = torch.minimum(torch.arange(1, window + 1), torch.arange(window, 0, -1)).float()
    total = torch.zeros(frames)
    for start in starts:
        total[start : start + window] += ramp
    return torch.stack([ramp / total[start : start + window] for start in starts])


def _at_least(x: Tensor, frames: int) -> Tensor:
    """Repeat the last row until there are `frames` rows."""
    if len(x) >= frames:
        return x
    return torch.cat([x, x[-1:].expand(frames - len(x), *x.shape[1:])])
