"""Frames from a reference picture and speech, by few-step sampling over overlapping windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common import seeding
from common.errors import PrivFedTalkError
from training.generation.samplers import make_sampler
from training.model.autoencoders.base import Autoencoder
from training.model.backbones.interface import Backbone
from training.model.device import autocast
from training.model.diffusion import sample_noise
from training.settings import GenerationSettings

CHUNK_FRAMES = 240
"""Frames of a long clip that are sampled together, not counting the context frames around them."""
DECODED_FRAMES = 40
"""Frames that are decoded at once."""
WINDOWS_AT_ONCE = 8
"""Windows of a clip that go through the backbone together; this bounds its memory."""

GOLDEN = (5**0.5 - 1) / 2
"""The golden ratio minus one; the fractional part of each multiple lies far from those of all smaller multiples."""

Hear = Callable[[int, int], Tensor]
"""Function from (start, stop) to the speech features [stop - start, S, D] of those frames of a clip."""

Advance = Callable[[float], None]
"""Progress callback: receives the work done since the last call, in frames."""


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

        reference [C, h, w] latent; speech [T, S, D]; motion [T, M] relative to the reference. By default motion is
        zero: the head stays as in the reference, and only speech moves the face.
        """
        frames, shape = len(speech), self.backbone.shape
        window = self.backbone.settings.window
        speech = _at_least(speech, window)
        motion = speech.new_zeros(len(speech), shape.motion_dim) if motion is None else _at_least(motion, window)
        generator = torch.Generator().manual_seed(seed)
        size = (1, len(speech), shape.latent_channels, shape.latent_size, shape.latent_size)
        noise = sample_noise(size, self.shared_noise, generator)[0]
        return self._sample(noise, reference, speech, motion)[:frames]

    @torch.inference_mode()
    def stream(
        self,
        reference: Tensor,
        hear: Hear,
        frames: int,
        seed: int,
        chunk: int = CHUNK_FRAMES,
        sampled: Advance | None = None,
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Frames of a clip of any length, uint8 [H, W, 3] each; memory does not grow with the length. Motion is zero.

        Each chunk is sampled together with all frames around it that influence it (`chunks_of`), so it equals the same
        part of a clip sampled at once, and no seam shows between chunks. Each frame's noise is drawn by the frame's
        number. Frames come in bursts, one a chunk; `sampled` is called with the progress in between.
        """
        window, shape = self.backbone.settings.window, self.backbone.shape
        settings = self.settings
        for kept, around in chunks_of(max(frames, window), window, settings.overlap, settings.steps, chunk):
            heard = _at_least(hear(around.start, min(around.stop, frames)), around.stop - around.start)
            resting = heard.new_zeros(len(heard), shape.motion_dim)
            noise = self._noise_of(around, seed)
            inside = slice(kept.start - around.start, min(kept.stop, frames) - around.start)
            advance = None if sampled is None else partial(_report_share, sampled, inside.stop - inside.start)
            wanted = self._sample(noise, reference, heard, resting, advance)[inside]
            if not torch.isfinite(wanted).all():
                raise PrivFedTalkError(
                    "the model drew frames that are not finite, which would be shown as black ones",
                    "use another adapter (--adapter, --method), or train this one again",
                )
            for part in wanted.split(DECODED_FRAMES):
                yield from self.vae.decode_latents(part)

    def _noise_of(self, frames: range, seed: int) -> Tensor:
        """Noise [T, C, h, w] of the given frames of a clip of any length, mixed as in `sample_noise`."""
        shape = self.backbone.shape
        size = (shape.latent_channels, shape.latent_size, shape.latent_size)

        def drawn(label: str) -> Tensor:
            return torch.from_numpy(seeding.generator(seed, "noise", label).standard_normal(size, np.float32))

        own = torch.stack([drawn(str(number)) for number in frames])
        return self.shared_noise**0.5 * drawn("common") + (1 - self.shared_noise) ** 0.5 * own

    def _sample(
        self,
        noise: Tensor,
        reference: Tensor,
        speech: Tensor,
        motion: Tensor,
        advance: Advance | None = None,
    ) -> Tensor:
        """Latents [T, C, h, w] on the reference's device from noise [T, C, h, w] on the CPU; T is at least a window.

        `advance` is called with each share of the whole work that was done.
        """
        window, overlap = self.backbone.settings.window, self.settings.overlap
        z_t = noise.to(reference.device)
        scheduler = make_sampler(self.settings.sampler, self.backbone.process, self.settings.steps)
        for step, t in enumerate(scheduler.timesteps):
            # Predictions of overlapping windows are averaged. Windows lie elsewhere at every step, so that no frame
            # stays at a window's edge and no seam forms.
            starts = window_starts(len(speech), window, overlap, shift_at(step, window, overlap))
            blend = blending_weights(starts, len(speech), window).to(reference.device)
            merged = torch.zeros_like(z_t)
            for first in range(0, len(starts), WINDOWS_AT_ONCE):
                group = slice(first, first + WINDOWS_AT_ONCE)
                cuts = [slice(start, start + window) for start in starts[group]]
                with autocast(reference.device):
                    noisy, heard, moved = (torch.stack([each[cut] for cut in cuts]) for each in (z_t, speech, motion))
                    times = t.expand(len(cuts)).to(reference.device)
                    still = reference.expand(len(cuts), -1, -1, -1)
                    predicted = self._predict(noisy, times, heard, still, moved)
                for cut, weight, one in zip(cuts, blend[group], predicted, strict=True):
                    merged[cut] += weight[:, None, None, None] * one.float()
                if advance is not None:
                    advance(len(cuts) / len(starts) / self.settings.steps)
            z_t = scheduler.step(merged, t, z_t).prev_sample
        return self.backbone.to_latents(z_t[None], reference[None])[0]

    def _predict(self, noisy: Tensor, t: Tensor, heard: Tensor, still: Tensor, moved: Tensor) -> Tensor:
        """The backbone's prediction for windows, with classifier-free guidance by speech and reference.

        Let p_all be the prediction with all conditions, p_mute without speech, p_none without speech and reference.
        The guided prediction is p_none + g_identity (p_mute - p_none) + g_speech (p_all - p_mute) (Brooks et al. 2023,
        eq. 3).
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


def window_starts(frames: int, window: int, overlap: int, shift: int = 0) -> list[int]:
    """First frames of windows that cover all frames: a grid that begins at `shift`, and both ends of the clip."""
    stride, last = max(1, window - overlap), frames - window
    return sorted({0, *range(shift, last + 1, stride), last})


def shift_at(step: int, window: int, overlap: int) -> int:
    """First frame of the grid of windows at a sampling step, far from those of earlier steps."""
    stride = max(1, window - overlap)
    return round(step * GOLDEN * stride) % stride


def chunks_of(
    frames: int, window: int, overlap: int, steps: int, chunk: int = CHUNK_FRAMES
) -> Iterator[tuple[range, range]]:
    """Cut a clip into chunks: (frames that the chunk yields, frames that are sampled for it).

    In the sampled part, windows lie where they lie in the whole clip, except for the first and the last window. The
    error of these two spreads by at most a window at each sampling step; the margin around a chunk is wider than that.
    """
    stride = max(1, window - overlap)
    reach = 1 + steps * (window - 1)
    margin, chunk = -(-reach // stride) * stride, -(-chunk // stride) * stride
    for start in range(0, frames, chunk):
        stop = min(start + chunk, frames)
        first, last = max(0, start - margin), -(-(stop + margin - window) // stride) * stride + window
        yield range(start, stop), range(first, min(last, frames))


def blending_weights(starts: list[int], frames: int, window: int) -> Tensor:
    """Weights [windows, window] of each window's frames, normalised to sum to one at every frame of the clip.

    The squared Hann window: frames at a window's edges, where the window sees least context, have almost no weight, so
    that frames do not jump where a window begins or ends.
    """
    ramp = torch.sin(torch.pi * (torch.arange(window) + 0.5) / window) ** 4
    total = torch.zeros(frames)
    for start in starts:
        total[start : start + window] += ramp
    return torch.stack([ramp / total[start : start + window] for start in starts])


def _report_share(advance: Advance, frames: int, share: float) -> None:
    advance(frames * share)


def _at_least(x: Tensor, frames: int) -> Tensor:
    """Repeat the last row until there are `frames` rows."""
    if len(x) >= frames:
        return x
    return torch.cat([x, x[-1:].expand(frames - len(x), *x.shape[1:])])
