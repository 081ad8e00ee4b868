"""Walk over a folder of clips: yield every file that may be a clip, and nothing that a run has made.

Names do not tell which files FFmpeg reads, so there is no list of endings of clips. Left out are known companions of
clips (text, tables, pictures, licences, sound beside its clip) and hidden files; every other file is a candidate, and
becomes a sample or a row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from common.errors import PrivFedTalkError
from common.folders import CLIENTS, CONFIGURATION, MANIFEST, PEOPLE, QUARANTINE, RunFolder

USUAL = (".mp4", ".mpg", ".mpeg", ".avi", ".mkv", ".mov")
"""Endings that clips have in the published corpora: of two files with one stem, the one with such an ending keeps the
stem as its name."""


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


SOUND = _words(".aac .ac3 .aif .aiff .amr .flac .m4a .mka .mp3 .oga .ogg .opus .wav .wma")
"""Endings of sound files: beside a clip of the same stem the sound is that clip's, alone it becomes a row."""

COMPANIONS = _words(
    # Text and tables. FFmpeg takes some of them for text to be shown as pictures.
    ".align .ans .art .asc .ass .bib .cfg .conf .css .csv .ctm .description .diz .doc .docx .eaf .htm .html .ice .info",
    ".ini .json .jsonl .lab .log .md .md5 .nfo .ods .odt .pdf .phn .rst .rtf .sha1 .sha256 .srt .sub .tex .textgrid",
    ".toml .trs .tsv .txt .url .vt .vtt .webloc .wrd .xls .xlsx .xml .yaml .yml",
    # Pictures, and what programs keep beside clips; a phone's edits, links, scripts.
    ".bmp .gif .heic .heif .ico .jpeg .jpg .png .ppm .psd .raw .svg .thm .tif .tiff .webp",
    ".ckpt .h5 .hdf5 .mat .npy .npz .onnx .parquet .pkl .pt .pth .safetensors",
    ".aae .lnk .py .sh .xmp .ytdl",
)
NAMED_COMPANIONS = _words(
    "authors changelog checksums citation copying desktop.ini ehthumbs.db license licence makefile md5sums notice",
    "readme sha1sums sha256sums thumbs.db version",
)

_RUN_MARKS = (MANIFEST, QUARANTINE, PEOPLE, CLIENTS, CONFIGURATION)
CUT_RECORDS = ".cuts"
"""The folder beside clips that were cut here, see `preparation.corpora.hdtf.cut`."""


def converted_beside(clip: Path) -> Path:
    """The file that records what was converted when a clip was cut here."""
    return clip.parent / CUT_RECORDS / f"{clip.stem}.converted"


def walk(root: Path, extensions: tuple[str, ...] = ()) -> Iterator[Path]:
    """Every file below `root` that may be a clip, in a fixed order; with `extensions`, only files that end so.

    Links to folders are followed, but no folder twice. A broken link, a link that points at itself, and a folder for
    which `why_closed` has a reason are yielded too, so that a row can say why nothing was read.
    """
    for folder, files in tour(root):
        if files is None:
            yield folder
            continue
        found = [name for name in files if may_be_clip(name, extensions)]
        clips = {_stem(name) for name in found if _ending(name) not in SOUND}
        for name in found:
            if extensions or _ending(name) not in SOUND or _stem(name) not in clips:
                yield folder / name


def tour(root: Path, without: Path | None = None, hidden: bool = False) -> Iterator[tuple[Path, list[str] | None]]:
    """Each folder at or below `root` once, links followed, with the sorted names of its files; None instead of names
    for a folder that is not read (see `why_closed`). `without` is left out wholly; `hidden` includes hidden files."""
    seen = {_real(without)} if without is not None else set()
    pending = [root]
    while pending:
        folder = pending.pop()
        real = _real(folder)
        if real in seen:
            continue
        seen.add(real)
        if folder != root and why_closed(folder):
            yield folder, None
            continue
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            yield folder, None
            continue
        shown = [entry for entry in entries if hidden or not entry.name.startswith(".")]
        inside = [entry for entry in shown if holds(entry.is_dir)]
        names = {entry.name for entry in inside}
        yield folder, [entry.name for entry in shown if entry.name not in names]
        pending.extend(folder / entry.name for entry in reversed(inside))


def why_closed(folder: Path) -> tuple[str, str] | None:
    """Why a folder below the corpus's own is not read, and what to do; None where it is read."""
    if is_run(folder):
        return "it is the folder of a run, and what a run made of clips is no clip", "keep runs outside the corpus"
    if holds((folder / CUT_RECORDS).is_dir):
        return (
            "its clips were cut from videos here, and the videos may be in the corpus, too",
            "keep them outside the corpus, or name this folder as --root to use them alone",
        )
    try:
        with os.scandir(folder) as entries:
            empty = next(entries, None) is None
    except OSError:
        return f"the folder {folder.name} cannot be listed", "check its permissions"
    if empty and folder.suffix.lower() in USUAL:
        return "it is an empty folder, not a clip", "copy the clip again"
    return None


def is_run(folder: Path) -> bool:
    """Whether a folder holds at least two of a run's files; a single one may be somebody's own file."""
    return sum(holds((folder / mark).is_file) for mark in _RUN_MARKS) >= 2


def is_crop(path: Path) -> bool:
    """Whether a file is a run's crop, wherever its folder was copied to: its description lies beside it."""
    description = path.with_suffix(".json")
    try:
        if not path.with_suffix(".safetensors").exists() or description.stat().st_size > 2**20:
            return False
        return {"clip_id", "source_sha256", "mouth_box"} <= set(json.loads(description.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return False


def check_apart(root: Path, run: RunFolder) -> None:
    """Raise PrivFedTalkError where the corpus's folder is the run's own or another run's."""
    if _real(root) == _real(run.root):
        raise PrivFedTalkError(
            f"{root} is both the corpus and the run's folder", remedy="choose another folder with --out"
        )
    check_no_run(root)


def check_no_run(root: Path) -> None:
    """Raise PrivFedTalkError where a corpus's folder is a run's."""
    if is_run(root):
        raise PrivFedTalkError(
            f"{root} is the folder of a run, not a corpus", remedy="point --root at the folder of the clips themselves"
        )


def may_be_clip(name: str, extensions: tuple[str, ...] = ()) -> bool:
    """Whether a file of this name may be a clip: with `extensions`, if it ends so; else if it is no known companion."""
    if extensions:
        return _ending(name).lstrip(".") in {ending.lower().lstrip(".") for ending in extensions}
    return _ending(name) not in COMPANIONS and name.lower() not in NAMED_COMPANIONS


def _ending(name: str) -> str:
    return PurePath(name).suffix.lower()


def _stem(name: str) -> str:
    return PurePath(name).stem


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a link that leads to itself
        return path.absolute()


def holds(test: Callable[[], bool]) -> bool:
    """The result of a test of a path; False where the test raises OSError (permissions, a name that is too long)."""
    try:
        return test()
    except OSError:
        return False
