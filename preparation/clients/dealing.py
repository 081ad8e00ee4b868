"""From people to clients: each person is a client, or clips are dealt to simulated clients once crops are made.

people.json     who is who, by the corpus's folders, with whole recordings (see `preparation.clients.roles`)
clients.json    who trains, with which samples: the same people, or simulated clients. Recordings that were cut are
                listed by their pieces, and clients of few recordings are split by time

A dealt clip keeps its name, and its crop stays in its person's folder; only the table says which client has it. So
dealing again costs new shards, but no crop is made or copied.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from preparation.clients.consent import people_of, read_consent
from preparation.clients.features import measure_clips
from preparation.clients.gate import CropGate
from preparation.clients.partition import cluster, deal
from preparation.clients.roles import (
    SPLITS,
    Client,
    ClientTable,
    load_clients,
    load_people,
    of_role,
    save_clients,
)
from preparation.clients.timeline import few_recordings, frames_of, left_out_rows, sample_clips, split_samples
from preparation.corpora.clip import Clip, recording_of
from preparation.corpora.manifest import load_manifest
from preparation.corpora.sources import source_keys
from preparation.crops.crop import has_crop
from preparation.quarantine import QuarantineRow, replace_rows
from preparation.settings import ClientSettings, PartitionRule, PartitionSettings, PreparationSettings, Unit


def deal_run(run: RunFolder, settings: PreparationSettings | None = None) -> ClientTable:
    """Write the client table of a run whose crops are made; first remove the shards of clients that are not in it.

    Clips of people whose record forbids training are dealt to nobody. A simulated client's record holds for the people
    whose clips it had: once it has other people's clips, its record is removed and their own records decide.
    """
    settings = settings or PreparationSettings()
    people = load_people(run)
    gap = frames_of(settings.samples.gap_seconds)
    if settings.partition.by is PartitionRule.DIRICHLET:
        samples = sample_clips(run, load_manifest(run.manifest))
        agreed = CropGate(run, "training", required=False).admit(of_role(people, "client"), "the dealing")
        members = [(name, people[name]) for name in agreed]
        features = {clip: found.vector() for clip, found in measure_clips(run, members).items()}
        table = deal_clips(
            samples.clips, people, features, settings.partition, settings.clients, places=samples.places, gap=gap
        )
        rows = _damaged(run, samples.clips, members, features) + left_out_rows(samples, features, table, gap)
    else:
        table, rows = _split_people(run, people, settings.clients, gap)
    forget_others(run, table)
    _remove_outdated_consent(run, table)
    save_clients(table, run.clients_table)
    replace_rows(run.quarantine, ("dealing",), rows)
    return table


def _split_people(
    run: RunFolder, people: ClientTable, settings: ClientSettings, gap: int
) -> tuple[ClientTable, list[QuarantineRow]]:
    """The table, in which clients whose recordings were cut are split anew where they have crops of fewer than three
    recordings, or a split without a crop; and rows for their pieces that are then in no split."""
    cut = [
        name for name in of_role(people, "client") if any(recording_of(clip) != clip for clip in people[name].clips())
    ]
    if not cut:
        return people, []
    samples = sample_clips(run, load_manifest(run.manifest))
    by_id = {clip.clip_id: clip for clip in samples.clips}
    table = dict(people)
    wanted: list[str] = []
    for name in cut:
        entry = people[name]
        own = [clip for clip in entry.clips() if clip in by_id]
        usable = {clip for clip in own if has_crop(run.crops_of(clip), by_id[clip].name)}
        some_empty = not all(usable.intersection(entry.splits[split]) for split in SPLITS)
        clips = [by_id[clip] for clip in sorted(usable)]
        if not few_recordings(clips, settings.sources) and (entry.people or not some_empty):
            continue  # a host's splits stay those of a run without guests
        splits, one_video = split_samples(name, clips, samples.places, settings, gap)
        # Clips without a crop stay in the table, where the others of their client are.
        splits["train"] = sorted([*splits["train"], *(clip for clip in own if clip not in usable)])
        table[name] = replace(entry, splits=splits, one_video=one_video)
        wanted += usable
    return table, left_out_rows(samples, wanted, table, gap)


def deal_clips(
    clips: Iterable[Clip],
    people: ClientTable,
    features: Mapping[str, NDArray[np.float64]],
    settings: PartitionSettings,
    splitting: ClientSettings | None = None,
    places: Mapping[str, slice] | None = None,
    gap: int = 0,
) -> ClientTable:
    """The table of dealt clients; public and unseen people stay as they are.

    `features` holds a vector for each clip id that is to be dealt (see `preparation.clients.features`); clips without
    one, which have no crop, are in no split. Splits keep videos whole; where a person is one video (LRS3), that keeps
    people whole too. Clients with pieces (`places`, see `timeline.SampleClips`) of fewer than three recordings are
    split by time, with `gap` frames between the splits.
    """
    splitting = splitting or ClientSettings()
    by_id = {clip.clip_id: clip for clip in clips}
    units: dict[str, list[Clip]] = {}
    keys = source_keys((by_id[clip_id] for clip_id in features), splitting.sources)
    for clip_id in sorted(features):
        clip = by_id[clip_id]
        whole = _person(clip.speaker, people) if settings.unit is Unit.PERSON else keys[clip_id]
        units.setdefault(whole, []).append(clip)
    if len(units) < settings.clients:
        raise PrivFedTalkError(
            f"{len(units)} {settings.unit.value}s with crops cannot fill {settings.clients} clients",
            remedy="set preparation.partition.clients lower, or preparation.partition.unit=video",
        )
    means = np.stack([np.mean([features[clip.clip_id] for clip in own], axis=0) for own in units.values()])
    labels = dict(zip(units, map(int, cluster(means, settings.clusters, settings.seed)), strict=True))
    owner = {clip_id: entry.person_of(clip_id) for entry in people.values() for clip_id in entry.clips()}
    names = _new_names(settings.clients, people)
    given = deal(labels, {unit: len(own) for unit, own in units.items()}, settings, names)
    dealt: dict[str, list[Clip]] = {name: [] for name in names}
    for unit, own in units.items():
        dealt[given[unit]].extend(own)

    table: ClientTable = {name: entry for name, entry in people.items() if entry.role != "client"}
    for name, own in dealt.items():
        ordered = sorted(own, key=lambda clip: clip.clip_id)
        splits, one_video = split_samples(name, ordered, places or {}, splitting, gap)
        kept = {clip for ids in splits.values() for clip in ids}
        owners = {clip.clip_id: owner[clip.clip_id] for clip in own if clip.clip_id in kept}
        table[name] = Client("client", name, splits, one_video, dict(sorted(owners.items())))
    return table


def _person(speaker: str, people: ClientTable) -> str:
    """One name for all speakers who share recordings, since they may be one person."""
    return min([speaker, *(people[speaker].shares if speaker in people else ())])


def forget_others(run: RunFolder, table: ClientTable) -> None:
    """Remove the shards of everybody who is not in the table, so that they are not taken for a client's."""
    for shards in sorted(run.root.glob("clients/*/shards")):
        folder = shards.parent
        if folder.name not in table:
            shutil.rmtree(shards)
            _remove_if_empty(folder)


def _remove_outdated_consent(run: RunFolder, table: ClientTable) -> None:
    """Remove the record of each simulated client that now has other people's clips; a revoked record stays."""
    before = load_clients(run.clients_table) if run.clients_table.exists() else {}
    for name, entry in table.items():
        old = before.get(name)
        if not entry.people or name in people_of(name, entry):
            continue  # a person's own record stays
        if old is None or people_of(name, old) != people_of(name, entry):
            record = read_consent(run, name)
            if record is not None and record.revoked is None:
                run.consent(name).unlink()


def _new_names(count: int, people: ClientTable) -> list[str]:
    """d0000, d0001, ...; with a longer prefix of d's where the corpus already has people of such names."""
    prefix = "d"
    while any(f"{prefix}{number:04d}" in people for number in range(count)):
        prefix += "d"
    return [f"{prefix}{number:04d}" for number in range(count)]


def _damaged(
    run: RunFolder, clips: Iterable[Clip], members: Iterable[tuple[str, Client]], features: Mapping[str, object]
) -> list[QuarantineRow]:
    """Rows for clips whose crop exists but cannot be read: they are dealt to nobody, so no later step reports them."""
    placed = {clip for _, entry in members for clip in entry.clips()}
    reason, remedy = "its crop cannot be read", "delete the crop's .json and run the crops step again"
    return [
        QuarantineRow(clip.path, "dealing", reason, remedy)
        for clip in clips
        if clip.clip_id in placed and clip.clip_id not in features and has_crop(run.crops(clip.speaker), clip.name)
    ]


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
