"""The clips of a run: rendered or found, listed, and shared out among clients."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg

from assets.run import HdtfSources, Run
from assets.showing import table
from assets.stages import Stage, digest

GROUP = "corpus"


@dg.asset(group_name=GROUP, kinds={"python", "video"})
def corpus(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """Clips of talking people: rendered by the studio, cut from HDTF's videos, or a folder that is already there."""
    stage = _rendered(run) if run.renders else _cut(run, run.cut_from) if run.cut_from else _found(run)
    files = [path for path in run.corpus_root.rglob("*") if path.is_file()]
    return dg.MaterializeResult(
        metadata={
            "kind": run.corpus_kind.value,
            "folder": dg.MetadataValue.path(run.corpus_root),
            "files": len(files),
            "megabytes": round(sum(path.stat().st_size for path in files) / 1e6, 2),
        },
        data_version=dg.DataVersion(stage.version),
    )


def _rendered(run: Run) -> Stage:
    from preparation.corpora.studio.corpus import render_corpus

    with run.stage(
        "corpus",
        settings=[run.studio],
        after=[],
        code=["preparation/corpora/studio"],
        outputs=lambda: [run.corpus_root],
    ) as stage:
        if stage.due:
            _clear_unless_begun(run, stage)
            render_corpus(run.corpus_root, run.studio, run.workers)
    return stage


def _clear_unless_begun(run: Run, stage: Stage) -> None:
    """Clips of an interrupted rendering stay; clips that other settings or other code drew must not mix in."""
    begun = run.folder.root / "corpus_begun.txt"
    if not (run.keep and begun.exists() and begun.read_text() == stage.inputs):
        shutil.rmtree(run.corpus_root, ignore_errors=True)
        begun.parent.mkdir(parents=True, exist_ok=True)
        begun.write_text(stage.inputs)


def _cut(run: Run, sources: HdtfSources) -> Stage:
    """Clips cut by an earlier or interrupted run stay where their videos, tables and settings are the same."""
    from preparation.corpora.hdtf.cut import cut_corpus, nothing_cut
    from preparation.quarantine import replace_rows

    inputs = [digest(_listing(sources.videos)), digest(_listing(sources.tables))]
    with run.stage(
        "corpus",
        settings=[run.corpus_kind.value, run.preparation.corpus, *inputs],
        after=[],
        code=["preparation/corpora/hdtf"],
        outputs=lambda: run.corpus_root.glob("*.mp4"),
    ) as stage:
        if stage.due:
            if not (run.keep and (run.corpus_root / ".cuts").is_dir()):
                shutil.rmtree(run.corpus_root, ignore_errors=True)  # or else what the studio drew here stays
            done = cut_corpus(sources.tables, sources.videos, run.corpus_root, run.preparation.corpus, run.workers)
            replace_rows(run.folder.quarantine, ("cuts",), done.rows)
            if done.made + done.kept == 0:
                raise nothing_cut(done, sources.videos)
    return stage


def _listing(folder: Path) -> list[str]:
    """Names, sizes and times of all files at or below a folder."""
    stats = {path: path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
    return [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats.items()]


def _found(run: Run) -> Stage:
    """A corpus that was there before is known by its files' names, sizes and times: hashing it takes hours."""
    listing = run.folder.root / "corpus_files.txt"
    lines = _listing(run.corpus_root)
    settings = [run.corpus_kind.value, digest(lines)]
    with run.stage("corpus", settings=settings, after=[], code=[], outputs=lambda: [listing]) as stage:
        if stage.due:
            listing.parent.mkdir(parents=True, exist_ok=True)
            listing.write_text("\n".join(lines) + "\n")
    return stage


@dg.asset(group_name=GROUP, kinds={"parquet"}, deps=[corpus])
def manifest(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """One row a readable clip (frames, rate, size, sound, SHA-256); unreadable ones are in the quarantine."""
    from preparation.manifest import load_manifest, save_manifest, scan, sha256_of
    from preparation.quarantine import load_quarantine, replace_rows

    folder = run.folder
    with run.stage(
        "manifest",
        settings=[run.preparation.corpus, *map(sha256_of, run.preparation.corpus.lists)],
        after=["corpus"],
        code=["preparation"],
        outputs=lambda: [folder.manifest],
    ) as stage:
        if stage.due:
            found = scan(run.corpus_kind, run.corpus_root, run.preparation.corpus)
            save_manifest(found.clips, folder.manifest)
            replace_rows(folder.quarantine, ("manifest",), found.quarantine)
    clips, refused = load_manifest(folder.manifest), load_quarantine(folder.quarantine)
    return dg.MaterializeResult(
        metadata={
            "clips": len(clips),
            "speakers": len({clip.speaker for clip in clips}),
            "minutes": round(sum(clip.seconds for clip in clips) / 60, 2),
            "megabytes": round(sum(clip.bytes for clip in clips) / 1e6, 2),
            "quarantined": len(refused),
            "first clips": table([vars(clip) for clip in clips[:20]]),
            "quarantine": table([vars(row) for row in refused]),
        },
        data_version=dg.DataVersion(stage.version),
    )


@dg.asset(group_name=GROUP, kinds={"json"}, deps=[manifest])
def clients(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """Who is public, who is a client, who stays unseen; and which clips each trains, validates, tests on."""
    from preparation.clients import assign_clients, left_out, load_clients, save_clients
    from preparation.manifest import load_manifest
    from preparation.quarantine import replace_rows

    folder = run.folder
    with run.stage(
        "clients",
        settings=[run.preparation.clients],
        after=["manifest"],
        code=["preparation"],
        outputs=lambda: [folder.clients_table],
    ) as stage:
        if stage.due:
            clips = load_manifest(folder.manifest)
            assigned = assign_clients(clips, run.preparation.clients)
            save_clients(assigned, folder.clients_table)
            replace_rows(folder.quarantine, ("clients",), left_out(clips, assigned))
    found = load_clients(folder.clients_table)
    return dg.MaterializeResult(
        metadata={
            **{role: sum(client.role == role for client in found.values()) for role in ("public", "client", "unseen")},
            "clips a split": table(
                [
                    {"client": name, "role": client.role, **{split: len(ids) for split, ids in client.splits.items()}}
                    for name, client in found.items()
                ]
            ),
        },
        data_version=dg.DataVersion(stage.version),
    )


@dg.asset_check(asset=clients, blocking=True)
def splits_disjoint(run: dg.ResourceParam[Run]) -> dg.AssetCheckResult:
    """No clip is in two splits or with two clients, and no public speaker is a client too."""
    from preparation.clients import load_clients

    found = load_clients(run.folder.clients_table)
    owners: dict[str, list[str]] = {}
    for name, client in found.items():
        for split, clip_ids in client.splits.items():
            for clip_id in clip_ids:
                owners.setdefault(clip_id, []).append(f"{name}/{split}")
    shared = {clip_id: places for clip_id, places in owners.items() if len(places) > 1}
    public = {client.speaker for client in found.values() if client.role == "public"}
    both = sorted(public & {client.speaker for client in found.values() if client.role != "public"})
    return dg.AssetCheckResult(
        passed=not shared and not both,
        metadata={"clips in two places": str(shared), "public speakers that are clients": str(both)},
    )
