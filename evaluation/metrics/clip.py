"""A held-out clip as methods and metrics see it, and the functions that generate and track its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from evaluation.metrics.arrays import Audio, Floats, Frame, Frames
from preparation.faces.landmarks import Landmarks, mouth_opening

if TYPE_CHECKING:
    from preparation.shards.store import Sample

Generate = Callable[["EvaluationClip", Floats], Frames]
"""A model: a clip (whose true frames only a gate may use) and speech [T, tokens, dim] -> frames [T, H, W, 3]."""

Track = Callable[[Frames], tuple[Landmarks, Sequence[bool]]]
"""A face tracker: frames [T, H, W, 3] -> landmarks [T, 68, 2] and whether a face was found in each frame."""


class OpeningMeter(Protocol):
    """Reads the mouth opening off frames uint8 [T, H, W, 3]: float32 [T]."""

    def opening(self, frames: Frames) -> Floats: ...


@dataclass(frozen=True)
class Swapped:
    """Speech of another clip; lips that follow it are driven by the sound, not by a habit of the person."""

    speech: Floats  # [T, tokens, dim], as long as the clip it will drive
    opening: Floats | None  # [T], the other clip's true opening
    seen_opening: Floats  # [T], the same off its landmarks
    audio: Audio


MeasuredRole = Literal["client", "unseen"]
"""Roles of the people whose clips are measured: the backbone was not trained on them, and they chose no checkpoint."""


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
    reference: Frame  # [H, W, 3], of the same person at another moment or in another clip
    swapped: Swapped | None = None
    sample: Sample | None = None  # the clip as a trained model reads it: latents, reference latent, motion

    @property
    def seen_opening(self) -> Floats:
        """The mouth opening [T] off the true clip's landmarks, which a tracker found unless the corpus has them."""
        return mouth_opening(self.landmarks)

    @property
    def best_opening(self) -> Floats:
        """The true opening [T] where the corpus knows it, else the one off the landmarks."""
        return self.seen_opening if self.opening is None else self.opening
