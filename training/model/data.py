"""From shards to batches: clips as tensors, random windows of frames, a seeded stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from preparation.faces.landmarks import eye_boxes, interocular, mouth_box, mouth_opening
from preparation.shards.store import Sample
from training.model.device import sent

BUFFER_FRAMES = 32_768
"""Frames of a stream of clips that are held at once: 22 minutes, 270 MB of latents of 16 x 16 x 8 and 500 MB of
whisper-tiny's features, or 210 MB of log-mel."""

Boxes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClipTensors:
    """One clip, ready to train on.

    latents [T, C, h, w]; speech [T, S, D]; reference [C, h, w]; motion [T, M] relative to the reference;
    lips [T, 2], inner-lip gap and mouth width in inter-ocular distances, from the tracked landmarks;
    mouth, eyes [T, h, w] in [0, 1], the share of each latent cell that lies in the feature's box;
    cepstra [T, 4, 13], the input of the active-speaker network, if the shards hold it.
    """

    clip_id: str
    latents: Tensor
    speech: Tensor
    reference: Tensor
    motion: Tensor
    lips: Tensor
    mouth: Tensor
    eyes: Tensor
    cepstra: Tensor | None = None

    @classmethod
    def from_sample(cls, sample: Sample) -> ClipTensors:
        """Convert a shard's sample."""
        assert sample.motion is not None, f"{sample.clip_id} was prepared without motion descriptors"
        cells, pixels = sample.latents.shape[-1], sample.reference.shape[0]
        cell = pixels // cells
        eyes = [eye_boxes(points, pixels) for points in sample.landmarks]
        return cls(
            clip_id=sample.clip_id,
            latents=torch.from_numpy(sample.latents.astype(np.float32)),
            speech=torch.from_numpy(sample.speech.astype(np.float32)),
            reference=torch.from_numpy(sample.reference_latent.astype(np.float32)),
            motion=torch.from_numpy(sample.motion.astype(np.float32)),
            lips=torch.from_numpy(lip_shape(sample.landmarks)),
            mouth=torch.from_numpy(coverage([mouth_box(points, pixels) for points in sample.landmarks], cells, cell)),
            eyes=torch.from_numpy(np.maximum(*(coverage(side, cells, cell) for side in zip(*eyes, strict=True)))),
            cepstra=None if sample.cepstra is None else torch.from_numpy(sample.cepstra.astype(np.float32)),
        )


@dataclass(frozen=True)
class Batch:
    """Windows of B clips: latents [B, F, C, h, w], speech [B, F, S, D], reference [B, C, h, w],
    motion [B, F, M], mouth and eyes [B, F, h, w], cepstra [B, F, 4, 13] where every clip has them."""

    latents: Tensor
    speech: Tensor
    reference: Tensor
    motion: Tensor
    mouth: Tensor
    eyes: Tensor
    cepstra: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same windows on another device."""
        return self.changed(lambda value: sent(value, device))

    def part(self, cut: slice) -> Batch:
        """Some of the windows."""
        return self.changed(lambda value: value[cut])

    def changed(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """A batch with `change` applied to every tensor."""
        tensors = {name: change(value) for name, value in vars(self).items() if value is not None}
        return Batch(**tensors)


def lip_shape(landmarks: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Inner-lip gap and mouth width of landmarks [T, 68, 2], in inter-ocular distances, float32 [T, 2]."""
    width = np.linalg.norm(landmarks[:, 54] - landmarks[:, 48], axis=-1) / interocular(landmarks)
    return np.stack([mouth_opening(landmarks), width], 1).astype(np.float32)


def coverage(boxes: Iterable[tuple[int, int, int, int]], size: int, cell: int) -> npt.NDArray[np.float32]:
    """Boxes (x0, y0, x1, y1) in pixels, one a frame -> the covered share of each latent cell [T, size, size].

    `cell` is a latent cell's side in pixels, the autoencoder's downscale.
    """
    edges = np.arange(size) * cell

    def overlap(low: float, high: float) -> npt.NDArray[np.float32]:
        inside = np.minimum(edges + cell, high) - np.maximum(edges, low)
        return (inside.clip(0, cell) / cell).astype(np.float32)

    return np.stack([np.outer(overlap(y0, y1), overlap(x0, x1)) for x0, y0, x1, y1 in boxes])


Window = tuple[Tensor | None, ...]
"""A window's tensors in the order of `Batch`'s fields."""


def window(clip: ClipTensors, start: int, frames: int) -> Window:
    """`frames` consecutive frames of a clip, in the order of `Batch`'s fields."""
    cut = slice(start, start + frames)
    return (
        clip.latents[cut],
        clip.speech[cut],
        clip.reference,
        clip.motion[cut],
        clip.mouth[cut],
        clip.eyes[cut],
        None if clip.cepstra is None else clip.cepstra[cut],
    )


def collate(windows: Sequence[Window]) -> Batch:
    """Stack windows into a batch; the batch has cepstra only if every window has them."""
    columns = [[value for value in column if value is not None] for column in zip(*windows, strict=True)]
    stacked = [torch.stack(column) if len(column) == len(windows) else None for column in columns]
    assert None not in stacked[:-1], "only the last column, the cepstra, may be missing"
    return Batch(*stacked)  # type: ignore[arg-type]


def own_reference(clip: ClipTensors, start: int, frames: int, rng: np.random.Generator) -> ClipTensors:
    """The clip with one of its own frames outside the window as its reference, if there is one.

    Within a clip the room and the head's place are the same, so the network learns to copy what does not move; between
    clips everything moves a little, and the network would draw eyes and background anew at every step. The frame is
    drawn from the quarter with the least open mouth, like the shards' references: an open mouth would hide the lips'
    shape at rest.
    """
    outside = torch.tensor([*range(start), *range(start + frames, len(clip.latents))])
    if not len(outside):
        return clip
    most_shut = outside[clip.lips[outside, 0].argsort(stable=True)][: max(1, len(outside) // 4)]
    moment = int(most_shut[int(rng.integers(len(most_shut)))])
    return replace(clip, reference=clip.latents[moment], motion=clip.motion - clip.motion[moment])


def stream_batches(
    clips: Iterator[ClipTensors],
    batch_size: int,
    frames: int,
    rng: np.random.Generator,
    buffer_frames: int = BUFFER_FRAMES,
    own_references: float = 0.0,
) -> Iterator[Batch]:
    """Endless batches of random windows from a stream of clips, with at most `buffer_frames` in memory, or one clip.

    While the stream lasts, one new clip replaces random old ones before each batch; afterwards the clips in the buffer
    stay. Clips shorter than `frames` are skipped. A share `own_references` of the windows gets a reference from its own
    clip (see `own_reference`).
    """
    held: list[ClipTensors] = []
    count = 0
    fresh = (clip for clip in clips if len(clip.latents) >= frames)
    while True:
        for clip in fresh:
            held.append(clip)
            count += len(clip.latents)
            if count <= buffer_frames:
                continue
            while count > buffer_frames and len(held) > 1:
                count -= len(held.pop(rng.integers(len(held) - 1)).latents)
            break
        if not held:
            return
        yield collate([_random_window(held, frames, rng, own_references) for _ in range(batch_size)])


def _random_window(clips: list[ClipTensors], frames: int, rng: np.random.Generator, own_references: float) -> Window:
    clip = clips[rng.integers(len(clips))]
    start = int(rng.integers(0, len(clip.latents) - frames + 1))
    if rng.random() < own_references:
        clip = own_reference(clip, start, frames, rng)
    return window(clip, start, frames)


def longest(lengths: Iterable[int], enough: int) -> int:
    """The largest of `lengths`; stops at the first that is at least `enough`."""
    most = 0
    for length in lengths:
        most = max(most, length)
        if most >= enough:
            break
    return most


def fixed_windows(clips: Iterable[ClipTensors], frames: int) -> list[Window]:
    """Every clip cut into consecutive windows, for validation; a remainder shorter than a window is dropped."""
    return [window(clip, start, frames) for clip in clips for start in range(0, len(clip.latents) - frames + 1, frames)]
