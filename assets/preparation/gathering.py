"""Corpora that are put together below the run's folder: HDTF's clips, cut from its videos, and mixes."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from assets.stage.run import HdtfSources, Run
from assets.stage.stages import Stage, digest
from common.files import write_text


def cut(run: Run, sources: HdtfSources) -> Stage:
    """Clips cut by an earlier or interrupted run stay where their videos, tables and settings are the same."""
    from preparation.corpora.hdtf.cut import cut_corpus, nothing_cut
    from preparation.quarantine import replace_rows

    own = run.folder.root
    inputs = digest([*lines_of(sources.videos, own), *lines_of(sources.tables, own)])
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
    lines = [line for folder in folders for line in lines_of(folder, run.folder.root)]
    inputs = digest([*parts, *lines])
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
            write_text(listing, "\n".join(lines) + "\n")
    return stage


def lines_of(folder: Path, without: Path | None = None) -> list[str]:
    """Names, sizes and times of all files at or below a folder, a line each; what in a name is no UTF-8 is escaped."""
    return [
        f"{path} {status.st_size} {status.st_mtime_ns}".encode("utf-8", "backslashreplace").decode()
        for path, status in listing_of(folder, without).items()
    ]


def listing_of(folder: Path, without: Path | None = None) -> dict[Path, os.stat_result]:
    """All files at or below a folder, sorted: those that clips are read from, links to folders followed, and all that
    lies beside them; but neither `without` nor any run below the folder."""
    from preparation.corpora.walking import tour

    found: dict[Path, os.stat_result] = {}
    for place, names in tour(folder, without, hidden=True):
        for name in names or ():
            try:
                status = (place / name).stat()
            except OSError:
                continue  # a link to nowhere, or somebody has just removed it
            if stat.S_ISREG(status.st_mode):
                found[place / name] = status
    return dict(sorted(found.items()))
