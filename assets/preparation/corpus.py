"""The clips of a run: their corpus, rendered or found, their manifest, and the people and splits they belong to."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, get_args

import dagster as dg

from assets.preparation.gathering import cut, lines_of, listing_of, mixed, write_listing
from assets.preparation.samples import first_frames, shown
from assets.stage.metadata import pictures, playing, table
from assets.stage.run import Run
from assets.stage.stages import Stage, digest
from assets.stage.transient import retried
from common.files import write_text
from common.folders import RunFolder
from preparation.settings import CorpusKind

if TYPE_CHECKING:
    from preparation.clients.roles import ClientTable
    from preparation.corpora.clip import Clip

GROUP = "corpus"


@dg.asset(group_name=GROUP, kinds={"python", "video"})
@retried
def corpus(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """Clips of talking people: rendered by the studio, cut from HDTF's videos, found in a folder, or a mix of these."""
    if run.corpus_kind is CorpusKind.MIX:
        stage = mixed(run, corpus)
    else:
        stage = _rendered(run) if run.renders else cut(run, corpus, run.cut_from) if run.cut_from else _found(run)
    files = listing_of(run.corpus_root, None if run.corpus_root.is_relative_to(run.folder.root) else run.folder.root)
    return dg.MaterializeResult(
        metadata={
            "kind": run.corpus_kind.value,
            "folder": dg.MetadataValue.path(run.corpus_root),
            "files": len(files),
            "megabytes": round(sum(stat.st_size for stat in files.values()) / 1e6, 2),
        },
        data_version=dg.DataVersion(stage.version),
    )


def _rendered(run: Run) -> Stage:
    inputs = digest(run.inputs(corpus, render, settings=[run.studio]))
    return run.stage(corpus, partial(render, run, inputs), settings=[run.studio], outputs=lambda: [run.corpus_root])


def render(run: Run, inputs: str) -> None:
    """Render the corpus. Clips of an interrupted rendering are kept if it had the same `inputs`; clips drawn by other
    settings or other code must not mix in."""
    from preparation.corpora.studio.corpus import render_corpus

    begun = run.folder.root / "corpus_begun.txt"
    if not (run.keep and begun.exists() and begun.read_text(encoding="utf-8") == inputs):
        shutil.rmtree(run.corpus_root, ignore_errors=True)
        write_text(begun, inputs)
    render_corpus(run.corpus_root, run.studio, run.workers)


def _found(run: Run) -> Stage:
    """The stage of an existing corpus, versioned by its files' names, sizes and times: hashing it would take hours."""
    from preparation.corpora.walking import check_apart

    check_apart(run.corpus_root, run.folder)
    listing = run.folder.root / "corpus_files.txt"
    lines = lines_of(run.corpus_root, run.folder.root)
    settings = [run.corpus_kind.value, digest(lines)]
    return run.stage(corpus, partial(write_listing, listing, lines), settings=settings, outputs=lambda: [listing])


@dg.asset(group_name=GROUP, kinds={"parquet"}, deps=[corpus])
@retried
def manifest(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """One row for each readable clip (frames, rate, size, sound, SHA-256); unreadable ones are in the quarantine."""
    from preparation.corpora.lists import version_of
    from preparation.corpora.manifest import load_manifest
    from preparation.quarantine import load_quarantine

    folder = run.folder
    stage = run.stage(
        manifest,
        partial(list_clips, run),
        settings=[run.preparation.corpus, *map(version_of, run.preparation.corpus.lists)],
        outputs=lambda: [folder.manifest],
    )
    clips, refused = load_manifest(folder.manifest), load_quarantine(folder.quarantine)
    return dg.MaterializeResult(
        metadata={
            "clips": len(clips),
            "speakers": len({clip.speaker for clip in clips}),
            "minutes": round(sum(clip.seconds for clip in clips) / 60, 2),
            "megabytes": round(sum(clip.bytes for clip in clips) / 1e6, 2),
            "quarantined": len(refused),
            **_previews(run, clips),
            "first clips": table([vars(clip) for clip in clips[:20]]),
            "quarantine": table([vars(row) for row in refused]),
        },
        data_version=dg.DataVersion(stage.version),
    )


def list_clips(run: Run) -> None:
    from preparation.corpora.manifest import save_manifest, scan
    from preparation.quarantine import replace_rows

    found = scan(run.corpus_kind, run.corpus_root, run.preparation.corpus)
    save_manifest(found.clips, run.folder.manifest)
    replace_rows(run.folder.quarantine, ("manifest",), found.quarantine)


def _previews(run: Run, clips: Sequence[Clip]) -> dict[str, dg.MetadataValue]:
    """First frames, an animated clip, and the path of its file with sound; empty if consent records are unreadable."""
    from preparation.media.previews import for_show

    limits = run.preparation.corpus.media
    with for_show("the manifest's clips"):
        seen = shown(run.folder, clips)
        faces = {"faces": pictures(first_frames(seen, run.corpus_root, limits))}
        if not seen:
            return faces
        first = run.corpus_root / seen[0].path
        return {**faces, "plays": playing(first, limits=limits), "the same with sound": dg.MetadataValue.path(first)}
    return {}


@dg.asset(group_name=GROUP, kinds={"json"}, deps=[manifest])
@retried
def clients(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """Each person's role (public, client, volunteer, unseen), and which clips are for training, validation, test."""
    from preparation.clients.roles import Role, load_people

    folder = run.folder
    stage = run.stage(
        clients,
        partial(assign_roles, run),
        settings=[run.preparation.clients, run.preparation.mix],
        outputs=lambda: [folder.people_table],
    )
    # Removal runs even if the stage is kept: whoever asks for it must not have to change a setting first.
    if stage.due or run.preparation.corpus.forget_absent:
        _handle_absent(folder, run.preparation.corpus.forget_absent)
    found = load_people(folder)
    return dg.MaterializeResult(
        metadata={
            **{role: sum(client.role == role for client in found.values()) for role in get_args(Role)},
            "clips a split": table(
                [
                    {"client": name, "role": client.role, **{split: len(ids) for split, ids in client.splits.items()}}
                    for name, client in found.items()
                ]
            ),
        },
        data_version=dg.DataVersion(stage.version),
    )


def assign_roles(run: Run) -> None:
    from preparation.clients.mix import assign_people
    from preparation.clients.roles import save_clients
    from preparation.corpora.manifest import load_manifest
    from preparation.quarantine import TWINS, replace_rows

    clips = load_manifest(run.folder.manifest)
    assigned, unplaced = assign_people(run.corpus_kind, run.corpus_root, clips, run.preparation)
    save_clients(assigned, run.folder.people_table)
    replace_rows(run.folder.quarantine, ("clients", TWINS), unplaced)


def _handle_absent(folder: RunFolder, forget: bool) -> None:
    """Report, or with `forget` remove, what was made of clips that are gone from the corpus; after a removal also name
    the models that have learnt from them, which stay."""
    from preparation.clients.removal import absent_names, settle_absent
    from training.adapters.membership import learnt_from

    learnt: list[str] = []
    if forget:
        gone = absent_names(folder)
        stay = {clip.rpartition("/")[0] for clip in gone.clips} - set(gone.people)
        # Own adapters go with people who are gone entirely; those of people who stay have learnt from removed clips.
        learnt = [*learnt_from(folder, [*gone.people, *stay]), *own_adapters(folder, stay)]
    settle_absent(folder, forget)
    if learnt:
        sys.stderr.write(f"models have learnt from them until they are trained anew: {', '.join(learnt)}\n")


def own_adapters(folder: RunFolder, people: Collection[str]) -> list[str]:
    """Paths of the adapters fitted to these people, relative to the run's folder."""
    found = (path for name in sorted(people) for path in sorted(folder.client(name).glob("methods/*/adapter")))
    return [str(path.relative_to(folder.root)) for path in found]


@dg.asset_check(asset=clients, blocking=True)
def splits_disjoint(run: dg.ResourceParam[Run]) -> dg.AssetCheckResult:
    """No clip and no recording is in two splits or with two clients, and no public speaker is a client too."""
    from preparation.clients.roles import load_people
    from preparation.corpora.manifest import load_manifest
    from preparation.corpora.twins import recordings_of

    return disjoint(load_people(run.folder), recordings_of(load_manifest(run.folder.manifest)))


def disjoint(found: ClientTable, recordings: Mapping[str, str] | None = None) -> dg.AssetCheckResult:
    """The result of the two checks on splits. `recordings`: clip id → recording, for clips that have copies."""
    from preparation.corpora.clip import recording_of

    recordings = recordings or {}
    owners: dict[str, list[str]] = {}
    for name, client in found.items():
        for split, clip_ids in client.splits.items():
            for clip_id in clip_ids:
                owners.setdefault(clip_id, []).append(f"{name}/{split}")
    placed: dict[str, set[str]] = {}
    for clip_id, places in owners.items():
        if recording := recordings.get(recording_of(clip_id)):
            placed.setdefault(recording, set()).update(places)
    copies = {recording: sorted(places) for recording, places in placed.items() if len(places) > 1}
    shared = {clip_id: places for clip_id, places in owners.items() if len(places) > 1}
    public = {client.speaker for client in found.values() if client.role == "public"}
    both = sorted(public & {client.speaker for client in found.values() if client.role != "public"})
    return dg.AssetCheckResult(
        passed=not shared and not both and not copies,
        metadata={
            "clips in two places": str(shared),
            "recordings in two places": str(copies),
            "public speakers that are clients": str(both),
        },
    )
