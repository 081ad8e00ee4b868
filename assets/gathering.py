"""Corpora that are put together below the run's folder: HDTF's clips, cut from its videos, and mixes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from assets.run import HdtfSources, Run
from assets.stages import Stage, digest


def cut(run: Run, sources: HdtfSources) -> Stage:
    """Clips cut by an earlier or interrupted run stay where their videos, tables and settings are the same."""
    from preparation.corpora.hdtf.cut import cut_corpus, nothing_cut
    from preparation.quarantine import replace_rows

    inputs = digest([*lines_of(sources.videos), *lines_of(sources.tables)])
    with run.stage(
        "corpus",
        settings=[run.corpus_kind.value, run.preparation.corpus, inputs],
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


def mixed(run: Run) -> Stage:
    """A link to each part that is there, and the cuts of one that has tables."""
    from preparation.corpora.hdtf.cut import cut_corpus
    from preparation.corpora.parts import MIX_NAME, link_part, named, own_part, write_parts
    from preparation.quarantine import QuarantineRow, replace_rows

    parts = named(run.corpus_parts)
    folders = [folder for part in parts.values() for folder in (part.root, part.tables) if folder is not None]
    inputs = digest([*parts, *(line for folder in folders for line in lines_of(folder))])
    root, listing = run.corpus_root, run.folder.root / "corpus_files.txt"
    with run.stage(
        "corpus",
        settings=[run.corpus_kind.value, run.preparation.corpus, inputs],
        after=[],
        code=["preparation/corpora"],
        outputs=lambda: [listing, root / MIX_NAME],
    ) as stage:
        if stage.due:
            if not (run.keep and (root / MIX_NAME).exists()):
                shutil.rmtree(root, ignore_errors=True)  # its links only: what they lead to stays
            rows: list[QuarantineRow] = []
            for name, part in parts.items():
                if part.tables is None:
                    link_part(root, name, part.root)
                else:
                    into = own_part(root, name)
                    rows += cut_corpus(part.tables, part.root, into, run.preparation.corpus, run.workers).rows
            write_parts(root, {name: part.kind for name, part in parts.items()})
            replace_rows(run.folder.quarantine, ("cuts",), rows)
            listing.write_text("\n".join(line for folder in folders for line in lines_of(folder)) + "\n")
    return stage


def lines_of(folder: Path) -> list[str]:
    """Names, sizes and times of all files at or below a folder, a line each."""
    return [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in listing_of(folder).items()]


def listing_of(folder: Path) -> dict[Path, os.stat_result]:
    """All files at or below a folder, sorted; of links to folders only those directly inside, which parts are."""
    roots = (
        [folder, *(path for path in folder.iterdir() if path.is_symlink() and path.is_dir())] if folder.is_dir() else []
    )
    return {path: path.stat() for root in roots for path in sorted(root.rglob("*")) if path.is_file()}
