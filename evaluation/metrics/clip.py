"""A held-out clip as methods and metrics see it, and the functions that generate and track its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from evaluation.metrics.arrays import Audio, Floats, Frame, Frames
from preparation.faces.landmarks import Landmarks

if TYPE_CHECKING:
    from preparation.shards.store import Sample

Generate = Callable[["EvaluationClip", Floats], Frames]
"""From a clip (whose truth only a gate may look at) and speech [T, tokens, dim] to frames [T, H, W, 3]."""

Track = Callable[[Frames], tuple[Landmarks, Sequence[bool]]]
"""A face tracker: frames [T, H, W, 3] -> landmarks [T, 68, 2] and whether a face was found in each frame."""


class OpeningMeter(Protocol):
    """Reads the mouth opening off frames uint8 [T, H, W, 3]: float32 [T]."""

    def opening(self, frames: Frames) -> Floats: ...


@dataclass(frozen=True)
class Swapped:
    """Speech of another clip: a face that follows it follows sound, not a habit of its own."""

    speech: Floats  # [T, tokens, dim], as long as the clip it will drive
    opening: Floats | None  # [T], the other clip's true opening
    audio: Audio


MeasuredRole = Literal["client", "unseen"]
"""Whose clips methods are measured on: people whom the backbone never saw and who chose no checkpoint."""


@dataclass(frozen=True)
class EvaluationClip:
    """One held-out clip with all that methods may use (reference, speech) and all that metrics look at."""

    clip_id: str
    client: str
    role: MeasuredRole
    frames: Frames  # [T, H, W, 3], the true crop
    landmarks: Landmarks  # [T, 68, 2], pixels of the crop
    opening: Floats | None  # [T], the true opening where the corpus knows it
    audio: Audio
    speech: Floats  # [T, tokens, dim]
    reference: Frame  # [H, W, 3], from another clip of the same person
    swapped: Swapped | None = None
    sample: Sample | None = None  # what the clip is to a trained model: latents, reference latent, motion
