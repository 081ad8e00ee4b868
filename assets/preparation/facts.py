"""Figures about prepared clips, from the manifest, the quarantine and the crops' descriptions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assets.stage.stages import content_version, digest
from common.folders import RunFolder

if TYPE_CHECKING:
    from preparation.corpora.clip import Clip


@dataclass(frozen=True)
class CropFacts:
    """Counts of clips, crops and refusals; `face_rate` counts the frames of refused clips as faceless.

    A crop whose description cannot be read is not counted, and is named on standard error.
    """

    clips: int
    speakers: int
    crops: int
    frames: int
    refused: int
    face_rate: float
    tracker: str


def crop_facts(folder: RunFolder) -> CropFacts:
    """The facts about everybody's clips."""
    from preparation.corpora.manifest import load_manifest

    return crop_facts_of(folder, {"": [clip.clip_id for clip in load_manifest(folder.manifest)]})[""]


def crop_facts_of(folder: RunFolder, groups: Mapping[str, Iterable[str]]) -> dict[str, CropFacts]:
    """The facts about each group of clip ids; a piece's id stands for its recording. Tables are read once, descriptions
    one at a time."""
    from preparation.corpora.clip import recording_of
    from preparation.corpora.manifest import load_manifest
    from preparation.quarantine import load_quarantine

    refused = {row.file for row in load_quarantine(folder.quarantine) if row.step in {"crops", "quality"}}
    by_id = {clip.clip_id: clip for clip in load_manifest(folder.manifest)}
    recordings = {name: dict.fromkeys(map(recording_of, clips)) for name, clips in groups.items()}
    return {
        name: _facts(folder, [by_id[clip] for clip in clips if clip in by_id], refused)
        for name, clips in recordings.items()
    }


def placed_clips(folder: RunFolder, buckets: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """The clip ids of each bucket's people, including those of their guests."""
    from preparation.clients.roles import load_people

    people = load_people(folder)
    return {bucket: [clip for name in names for clip in people[name].clips()] for bucket, names in buckets.items()}


def public_version(folder: RunFolder, descriptions: str) -> str:
    """Digest of what training on public people depends on: who they are, their splits, their files, and who of them
    forbids it. Clients do not change it.

    `descriptions` is a glob pattern in a person's folder for the small files that describe the others (a crop's
    description, an index of shards), so that no data is read.
    """
    from preparation.clients.roles import load_people, of_role
    from preparation.shards.gate import Gate

    people = load_people(folder)
    public = {name: people[name].splits for name in of_role(people, "public")}
    files = (path for name in public for path in folder.client(name).glob(descriptions))
    refused = Gate(folder, "training", required=False).refused(public)
    parts = [json.dumps(public, sort_keys=True), content_version(folder.root, files)]
    return digest([*parts, *([json.dumps(sorted(refused))] if refused else [])])


def _facts(folder: RunFolder, clips: list[Clip], refused: set[str]) -> CropFacts:
    from preparation.crops.pieces import crop_names
    from preparation.media.previews import for_show

    crops = frames = 0
    with_face = 0.0
    trackers: set[str] = set()
    places = [folder.crops_of(clip.clip_id) for clip in clips]
    paths = [
        place / f"{name}.json"
        for clip, place in zip(clips, places, strict=True)
        for name in crop_names(place, clip.name)
    ]
    for path in paths:
        if not path.exists():
            continue
        with for_show(f"the crop of {path.parent.parent.name}/{path.stem}"):
            crop = json.loads(path.read_text(encoding="utf-8"))
            length, faced, tracker = int(crop["frames"]), float(crop["quality"]["face_rate"]), str(crop["tracker"])
            crops, frames, with_face = crops + 1, frames + length, with_face + length * faced
            trackers.add(tracker)
    faceless = [clip.frames for clip in clips if clip.path in refused]
    return CropFacts(
        clips=len(clips),
        speakers=len({clip.speaker for clip in clips}),
        crops=crops,
        frames=frames,
        refused=len(faceless),
        face_rate=with_face / max(1, frames + sum(faceless)),
        tracker=", ".join(sorted(trackers)),
    )
