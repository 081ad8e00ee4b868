"""Features by which clients' clips differ, as a few numbers a clip: appearance and head pose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from common.errors import CorruptFileError
from common.folders import RunFolder
from common.progress import track
from preparation.clients.gate import CropGate
from preparation.clients.roles import Client
from preparation.crops.crop import Crop
from preparation.faces.landmarks import pose_proxy

LOOKED_AT = slice(0, 200, 25)
"""Frames whose colours are measured: one a second for eight seconds, so that a long clip costs no more than a short."""


@dataclass(frozen=True)
class ClipFeatures:
    """appearance float64 [4]: mean red, green and blue and the contrast of the crop, 0-1; pose float64 [T, 2]: yaw and
    pitch of each frame by `pose_proxy`, in inter-ocular distances."""

    appearance: NDArray[np.float64]
    pose: NDArray[np.float64]

    def vector(self) -> NDArray[np.float64]:
        """Appearance and mean pose together, [6]; to be standardised before use."""
        return np.concatenate([self.appearance, self.pose.mean(0)])


def clip_features(crop: Crop) -> ClipFeatures:
    frames = list(islice(crop.frames(), LOOKED_AT.start, LOOKED_AT.stop, LOOKED_AT.step))
    if not frames or len(crop.landmarks) == 0:
        raise CorruptFileError(f"{crop.video} holds no frame", remedy="run the crops step again")
    pixels = np.stack(frames).astype(np.float64) / 255
    contrast = pixels.mean(-1).std(axis=(1, 2)).mean()
    appearance = np.append(pixels.mean(axis=(0, 1, 2)), contrast)
    return ClipFeatures(appearance, pose_proxy(crop.landmarks).astype(np.float64))


def measure_clips(run: RunFolder, clients: Iterable[tuple[str, Client]]) -> dict[str, ClipFeatures]:
    """Features of every clip of these clients that has a crop, by clip id; damaged crops are skipped.

    Clients whose record forbids training are left out. Clients without a record are measured, because records are made
    after preparation.
    """
    gate, entries = CropGate(run, "training", required=False), dict(clients)
    found: dict[str, ClipFeatures] = {}
    for name in track(gate.admit(entries, "the comparison of clients"), "client features", unit="clients"):
        for clip in sorted(entries[name].clips()):
            if gate.has_crop(clip):
                try:
                    found[clip] = clip_features(gate.crop(name, clip))
                except CorruptFileError:
                    continue  # the shards step writes its row
    return found
