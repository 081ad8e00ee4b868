"""Corpora that are put together below the run's folder: HDTF's clips, cut from its videos, and mixes."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import dagster as dg

from assets.stage.run import HdtfSources, Run
from assets.stage.stages import Stage, digest
from common.files import write_text
from preparation.settings import CorpusPart


def cut(run: Run, corpus: dg.AssetsDefinition, sources: HdtfSources) -> Stage:
    """The stage that cuts HDTF's clips."""
    own = run.folder.root
    inputs = digest([*lines_of(sources.videos, own), *lines_of(sources.tables, own)])
    return run.stage(
        corpus,
        partial(cut_clips, run, sources),
        settings=[run.corpus_kind.value, run.preparation.corpus, inputs],
        outputs=lambda: run.corpus_root.glob("*.mp4"),
    )


def cut_clips(run: Run, sources: HdtfSources) -> None:
    """Cut HDTF's clips; clips that an earlier or interrupted run cut from the same videos, tables and settings stay."""
    from preparation.corpora.hdtf.cut import cut_corpus, nothing_cut
    from preparation.quarantine import replace_rows

    if not (run.keep and (run.corpus_root / ".cuts").is_dir()):
        shutil.rmtree(run.corpus_root, ignore_errors=True)  # otherwise the studio's clips would stay
    done = cut_corpus(sources.tables, sources.videos, run.corpus_root, run.preparation.corpus, run.workers)
    replace_rows(run.folder.quarantine, ("cuts",), done.rows)
    if done.made + done.kept == 0:
        raise nothing_cut(done, sources.videos)


def mixed(run: Run, corpus: dg.AssetsDefinition) -> Stage:
    """The stage that puts a mix of corpora together."""
    from preparation.corpora.parts import MIX_NAME, named

    parts = named(run.corpus_parts)
    folders = [folder for part in parts.values() for folder in (part.root, part.tables) if folder is not None]
    lines = [line for folder in folders for line in lines_of(folder, run.folder.root)]
    inputs = digest([*parts, *lines])
    listing = run.folder.root / "corpus_files.txt"

    return run.stage(
        corpus,
        partial(gather_parts, run, parts, listing, lines),
        settings=[run.corpus_kind.value, run.preparation.corpus, inputs],
        outputs=lambda: [listing, run.corpus_root / MIX_NAME],
    )


def gather_parts(run: Run, parts: Mapping[str, CorpusPart], listing: Path, lines: Sequence[str]) -> None:
    """Link each ready part into the corpus, and cut the clips of a part that has tables."""
    from preparation.corpora.hdtf.cut import cut_corpus
    from preparation.corpora.parts import MIX_NAME, link_part, own_part, write_parts
    from preparation.quarantine import QuarantineRow, replace_rows

    root = run.corpus_root
    if not (run.keep and (root / MIX_NAME).exists()):
        shutil.rmtree(root, ignore_errors=True)  # removes links only, not what they point to
    rows: list[QuarantineRow] = []
    for name, part in parts.items():
        if part.tables is None:
            link_part(root, name, part.root)
        else:
            into = own_part(root, name)
            rows += cut_corpus(part.tables, part.root, into, run.preparation.corpus, run.workers).rows
    write_parts(root, {name: part.kind for name, part in parts.items()})
    replace_rows(run.folder.quarantine, ("cuts",), rows)
    write_listing(listing, lines)


def write_listing(listing: Path, lines: Sequence[str]) -> None:
    """Write the list of an existing corpus's files, one a line."""
    write_text(listing, "\n".join(lines) + "\n")


def lines_of(folder: Path, without: Path | None = None) -> list[str]:
    """A line for each file at or below a folder: path, size, time. Bytes of a name that are not UTF-8 are escaped."""
    return [
        f"{path} {status.st_size} {status.st_mtime_ns}".encode("utf-8", "backslashreplace").decode()
        for path, status in listing_of(folder, without).items()
    ]


def listing_of(folder: Path, without: Path | None = None) -> dict[Path, os.stat_result]:
    """All files at or below a folder with their status, sorted by path, hidden ones included. Links to folders are
    followed; `without` and any run below the folder are left out."""
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
