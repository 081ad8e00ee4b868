"""Figures about prepared clips, gathered from the small files that vouch for them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from preparation.folders import RunFolder

if TYPE_CHECKING:
    from preparation.manifest import Clip


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
    """The facts about everybody's clips."""
    from preparation.manifest import load_manifest

    return crop_facts_of(folder, {"": {clip.speaker for clip in load_manifest(folder.manifest)}})[""]


def crop_facts_of(folder: RunFolder, groups: Mapping[str, Iterable[str]]) -> dict[str, CropFacts]:
    """The facts about the clips of each group of people; tables are read once, descriptions one at a time."""
    from preparation.manifest import load_manifest
    from preparation.quarantine import load_quarantine

    refused = {row.file for row in load_quarantine(folder.quarantine) if row.step in {"crops", "quality"}}
    clips: dict[str, list[Clip]] = {}
    for clip in load_manifest(folder.manifest):
        clips.setdefault(clip.speaker, []).append(clip)
    return {
        name: _facts(folder, {person: clips.get(person, []) for person in sorted(people)}, refused)
        for name, people in groups.items()
    }


def _facts(folder: RunFolder, people: Mapping[str, list[Clip]], refused: set[str]) -> CropFacts:
    crops = frames = 0
    with_face = 0.0
    trackers: set[str] = set()
    for person in people:
        for path in sorted(folder.crops(person).glob("*.json")):
            crop = json.loads(path.read_text(encoding="utf-8"))
            crops += 1
            frames += crop["frames"]
            with_face += crop["frames"] * crop["quality"]["face_rate"]
            trackers.add(crop["tracker"])
    clips = [clip for own in people.values() for clip in own]
    faceless = [clip.frames for clip in clips if clip.path in refused]
    return CropFacts(
        clips=len(clips),
        speakers=sum(bool(own) for own in people.values()),
        crops=crops,
        frames=frames,
        refused=len(faceless),
        face_rate=with_face / max(1, frames + sum(faceless)),
        tracker=", ".join(sorted(trackers)),
    )


def parameter_count(path: Path) -> int:
    """How many numbers a safetensors file holds, from its header alone."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
