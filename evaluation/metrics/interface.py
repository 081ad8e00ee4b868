"""Interfaces of everything that measures a clip: functions of a clip and its frames, and instruments with a network."""

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
    """A frozen face network that aligns each face by its landmarks [T, 68, 2] -> unit embeddings float32 [T, D].

    `metric` is the key of its similarity metric: figures of two networks never share a key.
    """

    @property
    def metric(self) -> str: ...

    def embed_aligned(self, frames: Frames, landmarks: Landmarks) -> Floats: ...


class Meter(Protocol):
    """An opened instrument: it measures each clip and, at the end, the whole set of clips."""

    def measure(self, clip: EvaluationClip, frames: Frames) -> Figures:
        """Figures of one generated clip [T, H, W, 3]; those that are undefined on the clip may be absent."""
        ...

    def conclude(self) -> dict[str, Figures]:
        """Figures of all clips together, by role (client, unseen); empty where there is no such figure."""
        ...


@dataclass(frozen=True)
class Networks:
    """The frozen networks that measure; none was trained on a client or on generated frames."""

    opening: OpeningMeter
    identity: Embedder
    track: Track | None = None
    faces: AlignedEmbedder | None = None
    meters: Sequence[Meter] = ()


Measure = Callable[[EvaluationClip, Frames, Networks], float | Mapping[str, float]]
"""A function of a clip and its generated frames [T, H, W, 3] -> the figure of one metric, or figures by key."""

Open = Callable[[FeatureCache, int], Meter]
"""Opens an instrument, from the run's feature cache and the number of frames of a clip that FID and KID use."""


@dataclass(frozen=True)
class Instrument:
    """Measures one metric or several.

    `measure` runs on every clip. `open` is for instruments that the settings ask for by name; `weight` is the
    registered network that such an instrument needs. With neither, the protocol itself measures the metrics.
    """

    name: str
    measure: Measure | None = None
    open: Open | None = None
    weight: str | None = None
