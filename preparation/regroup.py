"""A run prepared by identity becomes another whose clients are dealt anew; its crops are linked, not made again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preparation.client_features import measure_clips
from preparation.clients import Client, ClientTable, load_clients, save_clients, split_sources
from preparation.crops import has_crop
from preparation.errors import PrivFedTalkError
from preparation.folders import RunFolder
from preparation.manifest import Clip, load_manifest, save_manifest
from preparation.partition import PartitionSettings, Unit, cluster, deal
from preparation.progress import track
from preparation.quarantine import load_quarantine, save_quarantine
from preparation.settings import ClientSettings
from preparation.sources import source_of


def regroup_run(
    run: RunFolder, into: RunFolder, settings: PartitionSettings, splitting: ClientSettings | None = None
) -> ClientTable:
    """Write manifest, client table, quarantine and crops of a new run from one whose crops are made.

    The shards step then runs on `into` as on any other run. Needs no source clip, and no second landmark pass; crops
    are hard links where the disk allows, else copies.
    """
    if into.root.resolve() == run.root.resolve() or into.clients_table.exists():
        raise PrivFedTalkError(f"{into.root} is already a run", remedy="name a new folder for the regrouped clients")
    table, clips = load_clients(run.clients_table), load_manifest(run.manifest)
    members = [(name, entry) for name, entry in table.items() if entry.role == "client"]
    features = {clip: found.vector() for clip, found in measure_clips(run, members).items()}
    regrouped, new = regroup_clips(clips, table, features, settings, splitting)
    old = {clip.path: clip for clip in clips}
    for clip in track(regrouped, "linking crops", unit="clips"):
        before = old[clip.path]
        if has_crop(run.crops(before.speaker), before.name):
            _link_crop(run.crops(before.speaker), before, into.crops(clip.speaker), clip)
    save_manifest(regrouped, into.manifest)
    save_quarantine(load_quarantine(run.quarantine), into.quarantine)
    save_clients(new, into.clients_table)
    return new


def regroup_clips(
    clips: Iterable[Clip],
    table: ClientTable,
    features: Mapping[str, NDArray[np.float64]],
    settings: PartitionSettings,
    splitting: ClientSettings | None = None,
) -> tuple[list[Clip], ClientTable]:
    """The clips under their new clients' names, and the new table; public and unseen people stay as they are.

    `features` holds a vector for each clip id that is to be dealt (see `preparation.client_features`). The clip
    `ann/00001` dealt to `d0003` is called `d0003/ann--00001`, and the table's `people` says whose it is. Splits keep
    videos whole by the original names; where a person is one video (LRS3), that keeps people whole too.
    """
    splitting = splitting or ClientSettings()
    by_id = {clip.clip_id: clip for clip in clips}
    units: dict[str, list[Clip]] = {}
    for clip_id in sorted(features):
        clip = by_id[clip_id]
        whole = clip.speaker if settings.unit is Unit.PERSON else source_of(clip, splitting.sources)
        units.setdefault(whole, []).append(clip)
    if len(units) < settings.clients:
        raise PrivFedTalkError(
            f"{len(units)} {settings.unit.value}s with crops cannot fill {settings.clients} clients",
            remedy="ask for fewer clients, or deal by video instead of by person (unit)",
        )
    means = np.stack([np.mean([features[clip.clip_id] for clip in own], axis=0) for own in units.values()])
    labels = dict(zip(units, map(int, cluster(means, settings.clusters, settings.seed)), strict=True))
    names = [f"d{number:04d}" for number in range(settings.clients)]
    given = deal(labels, {unit: len(own) for unit, own in units.items()}, settings, names)
    dealt: dict[str, list[Clip]] = {name: [] for name in names}
    for unit, own in units.items():
        dealt[given[unit]].extend(own)

    new: ClientTable = {name: entry for name, entry in table.items() if entry.role != "client"}
    regrouped = [by_id[clip] for entry in new.values() for clip in entry.clips()]
    for name, own in dealt.items():
        moved = {clip.clip_id: _renamed(clip, name) for clip in own}
        regrouped.extend(moved.values())
        parts, one_video = split_sources(name, own, splitting)
        splits = {split: sorted(moved[clip].clip_id for clip in ids) for split, ids in parts.items()}
        people = {moved[clip.clip_id].clip_id: clip.speaker for clip in own}
        new[name] = Client("client", name, splits, one_video, dict(sorted(people.items())))
    return sorted(regrouped, key=lambda clip: clip.clip_id), new


def _renamed(clip: Clip, client: str) -> Clip:
    return replace(clip, clip_id=f"{client}/{clip.speaker}--{clip.name}", speaker=client)


def _link_crop(source: Path, before: Clip, target: Path, after: Clip) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for suffix in (".mp4", ".safetensors"):
        place = target / f"{after.name}{suffix}"
        try:
            os.link(source / f"{before.name}{suffix}", place)
        except FileExistsError:
            continue  # of a regrouping that was cut short
        except OSError:
            shutil.copy2(source / f"{before.name}{suffix}", place)
    described = json.loads((source / f"{before.name}.json").read_text(encoding="utf-8"))
    described |= {"clip_id": after.clip_id, "speaker": after.speaker}
    text = json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False)
    (target / f"{after.name}.json").write_text(text, encoding="utf-8")
