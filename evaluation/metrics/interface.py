"""What measures a clip: plain functions of clip and frames, and instruments with a network of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from evaluation.metrics.arrays import Floats, Frames
from evaluation.metrics.clip import EvaluationClip, OpeningMeter, Track
from evaluation.metrics.networks.features import FeatureCache
from preparation.faces.landmarks import Landmarks

Figures = dict[str, float]
"""Values by the keys of their metrics."""


class Embedder(Protocol):
    """A frozen face network: aligned frames uint8 [T, H, W, 3] -> unit embeddings float32 [T, D]."""

    def embed(self, frames: Frames) -> Floats: ...


class AlignedEmbedder(Protocol):
    """A frozen face network that is shown each face as its own landmarks [T, 68, 2] place it: -> float32 [T, D].

    `metric` is the key of its similarity: figures of two networks never share a key.
    """

    @property
    def metric(self) -> str: ...

    def embed_aligned(self, frames: Frames, landmarks: Landmarks) -> Floats: ...


class Meter(Protocol):
    """An instrument that was opened: it measures each clip, and at the end the whole set of clips."""

    def measure(self, clip: EvaluationClip, frames: Frames) -> Figures:
        """Figures of one generated clip [T, H, W, 3]; absent where the clip does not allow them."""
        ...

    def conclude(self) -> dict[str, Figures]:
        """Figures of all clips together, by role (client, unseen); empty where there is no such figure."""
        ...


@dataclass(frozen=True)
class Networks:
    """The frozen networks that measure; none has seen a client or a generated frame."""

    opening: OpeningMeter
    identity: Embedder
    track: Track | None = None
    faces: AlignedEmbedder | None = None
    meters: Sequence[Meter] = ()


Measure = Callable[[EvaluationClip, Frames, Networks], float | Mapping[str, float]]
"""From a clip and its generated frames [T, H, W, 3] to the figure of one metric, or to figures by key."""

Open = Callable[[FeatureCache, int], Meter]
"""From the run's cache and the number of frames that set metrics take of a clip."""


@dataclass(frozen=True)
class Instrument:
    """What measures one metric or several. `measure` runs on every clip; `open` is for instruments that the settings
    ask for by name, `weight` the registered network that one needs. With neither, the protocol measures by itself."""

    name: str
    measure: Measure | None = None
    open: Open | None = None
    weight: str | None = None
