"""Features of frozen networks: computed in batches, and cached under a hash of the frames they were computed from.

True clips and references are the same for every method; with a cache their features are computed once for a run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from common.files import replacing
from evaluation.metrics.arrays import Floats, Frame, Frames

BATCH = 16
"""Frames that a network processes at once."""


class FeatureNetwork(Protocol):
    """A frozen network: frames uint8 [N, H, W, 3] -> features float32 [N, D]."""

    @property
    def fingerprint(self) -> str:
        """A text that changes with the weights and with the preprocessing of frames."""
        ...

    def features(self, frames: Frames) -> Floats: ...


def stream(network: FeatureNetwork, frames: Iterable[Frame], batch: int = BATCH) -> Floats:
    """Features [N, D] of a video of any length; only `batch` frames are in memory at a time."""
    iterator = iter(frames)
    parts = []
    while held := list(islice(iterator, batch)):
        parts.append(network.features(np.stack(held)))
    if not parts:
        raise ValueError("a video without frames has no features")
    return np.concatenate(parts)


def evenly(frames: Iterable[Frame], length: int, count: int) -> Iterator[Frame]:
    """`count` frames spread evenly over a video of `length`: as many of a long clip as of a short one.

    All frames where there are no more than `count`.
    """
    wanted = set(evenly_spaced(length, count).tolist())
    return (frame for index, frame in enumerate(frames) if index in wanted)


def evenly_spaced(length: int, count: int) -> npt.NDArray[np.int64]:
    """The middles of `count` equal stretches of `length` frames: int64 [min(length, count)]."""
    count = min(length, count)
    return ((np.arange(count) + 0.5) * length / count).astype(np.int64)


class FeatureCache:
    """Cache of arrays by the content they were computed from, a small file each; without a folder it keeps nothing."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def get(
        self, fingerprint: str, content: Iterable[npt.NDArray[Any]], compute: Callable[[], npt.NDArray[Any]]
    ) -> npt.NDArray[Any]:
        """The result of `compute` for `content`, read from the cache's file if it was computed before."""
        if self._folder is None:
            return compute()
        path = self._folder / f"{content_key(fingerprint, content)}.safetensors"
        if not path.exists():
            values = np.ascontiguousarray(compute())
            with replacing(path) as partial:
                save_file({"values": values}, partial)
            return values
        return load_file(path)["values"]


def content_key(fingerprint: str, content: Iterable[npt.NDArray[Any]]) -> str:
    """SHA-256 of the arrays' types, shapes and values and of the network's fingerprint."""
    digest = hashlib.sha256(fingerprint.encode())
    for array in content:
        digest.update(f"|{array.dtype.str}{array.shape}|".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
