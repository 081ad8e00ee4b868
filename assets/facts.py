"""Figures about prepared clips, gathered from the small files that vouch for them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preparation.folders import RunFolder


@dataclass(frozen=True)
class CropFacts:
    """What came of the clips; `face_rate` counts the frames of refused clips as faceless."""

    clips: int
    speakers: int
    crops: int
    frames: int
    refused: int
    face_rate: float
    tracker: str


def crop_facts(folder: RunFolder) -> CropFacts:
    from preparation.manifest import load_manifest
    from preparation.quarantine import load_quarantine

    clips = load_manifest(folder.manifest)
    crops = crop_records(folder)
    frames = sum(crop["frames"] for crop in crops)
    with_face = sum(crop["frames"] * crop["quality"]["face_rate"] for crop in crops)
    refused = {row.file for row in load_quarantine(folder.quarantine) if row.step in {"crops", "quality"}}
    faceless = sum(clip.frames for clip in clips if clip.path in refused)
    return CropFacts(
        clips=len(clips),
        speakers=len({clip.speaker for clip in clips}),
        crops=len(crops),
        frames=frames,
        refused=len(refused),
        face_rate=with_face / max(1, frames + faceless),
        tracker=", ".join(sorted({crop["tracker"] for crop in crops})),
    )


def crop_records(folder: RunFolder) -> list[dict[str, Any]]:
    """The JSON beside every crop."""
    return [json.loads(path.read_text()) for path in sorted(folder.root.glob("clients/*/crops/*.json"))]


def parameter_count(path: Path) -> int:
    """How many numbers a safetensors file holds, from its header alone."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
