"""The manifest: one row for each clip that can be opened; other files get a row in the quarantine table."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common.errors import CorruptFileError, PrivFedTalkError
from common.progress import track
from common.workers import map_threads
from preparation.corpora import folder, lrs3
from preparation.corpora.candidate import Candidate, distinct_names, folded, part_alike, tell_apart
from preparation.corpora.clip import COLUMNS, OWN_COLUMNS, Clip
from preparation.corpora.hdtf import ready
from preparation.corpora.parts import read_parts
from preparation.corpora.twins import PacketDigest
from preparation.corpora.walking import check_no_run, converted_beside, is_crop, why_closed
from preparation.media.conversions import Conversions, load_conversions
from preparation.media.sound import open_sound
from preparation.media.video import open_video
from preparation.media.writing import MADE_HERE
from preparation.quarantine import QuarantineRow, write_parquet
from preparation.settings import CorpusKind, CorpusSettings, MediaSettings

READING_THREADS = 4
"""Files read at once: reading and hashing wait for the disk or the network and leave the interpreter free."""

READERS: dict[CorpusKind, Callable[[Path, CorpusSettings], Iterator[Candidate]]] = {
    CorpusKind.STUDIO: lrs3.find,
    CorpusKind.LRS3: lrs3.find,
    CorpusKind.HDTF: ready.find,
    CorpusKind.FOLDER: folder.find,
}

LACKING: dict[CorpusKind, Callable[[list[Candidate], CorpusSettings], list[QuarantineRow]]] = {
    CorpusKind.STUDIO: lrs3.not_found,
    CorpusKind.LRS3: lrs3.not_found,
}
"""For each kind that lists can select from: rows for clips that the lists name and the corpus lacks."""


@dataclass(frozen=True)
class Scan:
    """What a corpus holds: readable clips in a fixed order, and rows for the rest."""

    clips: list[Clip]
    quarantine: list[QuarantineRow]


def scan(kind: CorpusKind | str, root: Path, settings: CorpusSettings | None = None) -> Scan:
    """Find, open and hash every clip below `root`; an unreadable one becomes a row and never stops the scan."""
    settings = settings or CorpusSettings()
    kind = CorpusKind(kind)
    if not root.is_dir():
        raise PrivFedTalkError(f"the corpus folder {root} does not exist", remedy="check the path given as --root")
    check_no_run(root)
    if kind is CorpusKind.MIX:
        return _scan_parts(root, settings)
    found = tell_apart(READERS[kind](root, settings))
    candidates, clashes = part_alike(found)
    clashes += [QuarantineRow(each.path, "manifest", *each.refusal) for each in found if each.refusal]
    lacking = LACKING.get(kind, _none_may_be_listed)(candidates, settings)
    listed = map_threads(
        lambda candidate: _listed(candidate, kind, root, settings.media), candidates, READING_THREADS, computing=False
    )
    rows = list(track(listed, "manifest", total=len(candidates), unit="clips"))
    clips = [row for row in rows if isinstance(row, Clip)]
    return Scan(clips, [*lacking, *clashes, *(row for row in rows if isinstance(row, QuarantineRow))])


def _scan_parts(root: Path, settings: CorpusSettings) -> Scan:
    """Scan each part with its own reader. Paths begin with the part's name, and so does the later of two equal names of
    people."""
    whole = Scan([], [])
    taken: set[str] = set()
    for part, kind in read_parts(root).items():
        own = settings if kind in LACKING else settings.model_copy(update={"lists": ()})
        found = scan(kind, root / part, own)
        names = _names_beside(taken, part, sorted({clip.speaker for clip in found.clips}))
        for clip in found.clips:
            whole.clips.append(
                replace(
                    clip,
                    clip_id=f"{names[clip.speaker]}/{clip.name}",
                    speaker=names[clip.speaker],
                    path=f"{part}/{clip.path}",
                    sidecar=clip.sidecar and f"{part}/{clip.sidecar}",
                    truth=clip.truth and f"{part}/{clip.truth}",
                )
            )
        taken |= {folded(name) for name in names.values()}
        whole.quarantine.extend(replace(row, file=f"{part}/{row.file}") for row in found.quarantine)
    return whole


def _names_beside(taken: set[str], part: str, speakers: list[str]) -> dict[str, str]:
    """The names of a part's people in the mix: their own, prefixed with the part's name where that is taken, with
    digits added where the result is taken, too."""
    names = {speaker: f"{part}-{speaker}" if folded(speaker) in taken else speaker for speaker in speakers}
    others = taken | {folded(name) for speaker, name in names.items() if name == speaker}
    clash = {speaker for speaker, name in names.items() if name != speaker and folded(name) in others}
    again = {speaker: f"{part}/{speaker}" for speaker in clash}
    return names | distinct_names(again)


def save_manifest(clips: Iterable[Clip], path: Path) -> None:
    import pandas as pd  # a second to import, which worker processes need not pay

    write_parquet(pd.DataFrame([_cells(clip) for clip in clips], columns=COLUMNS), path)


def load_manifest(path: Path) -> list[Clip]:
    """Read a manifest. Raises CorruptFileError for a table with other columns, as another version may have written."""
    import pandas as pd

    if not path.exists():
        raise PrivFedTalkError(
            f"there is no manifest at {path}", remedy="run the manifest step (`privfedtalk prepare`)"
        )
    table = pd.read_parquet(path)
    if list(table.columns) != COLUMNS:
        raise CorruptFileError(
            f"{path} has the columns {list(table.columns)}, not {COLUMNS}",
            remedy="delete it and scan the corpus again",
        )
    for column in ("sidecar", "truth"):
        table[column] = table[column].astype(object).where(table[column].notna(), None)
    own = len(OWN_COLUMNS)
    rows = table.itertuples(index=False, name=None)
    return [Clip(**dict(zip(OWN_COLUMNS, row, strict=False)), conversions=Conversions(*row[own:])) for row in rows]


def _cells(clip: Clip) -> dict[str, Any]:
    row = asdict(clip)
    return {**row, **row.pop("conversions")}


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _none_may_be_listed(candidates: list[Candidate], settings: CorpusSettings) -> list[QuarantineRow]:
    if settings.lists:
        raise PrivFedTalkError(
            f"{settings.lists[0]} selects LRS3 clips, and this corpus is none",
            remedy="use --list with --corpus lrs3 only",
        )
    return []


def _listed(candidate: Candidate, kind: CorpusKind, root: Path, limits: MediaSettings) -> Clip | QuarantineRow:
    try:
        candidate.path.encode()
        return _row(candidate, kind, root, limits)
    except UnicodeEncodeError:
        printable = candidate.path.encode("utf-8", "backslashreplace").decode()
        return QuarantineRow(printable, "manifest", "the file's name is not valid UTF-8", "rename the file")
    except PrivFedTalkError as error:
        return QuarantineRow(candidate.path, "manifest", error.reason, error.remedy)
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror or error}"
        return QuarantineRow(candidate.path, "manifest", reason, "check the link, the permissions and the disk")


def _row(candidate: Candidate, kind: CorpusKind, root: Path, limits: MediaSettings) -> Clip:
    path = root / candidate.path
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise PrivFedTalkError(*(why_closed(path) or ("it is a folder, not a clip", "read the corpus again")))
    if not stat.S_ISREG(status.st_mode):
        raise PrivFedTalkError(
            f"{candidate.path} is no ordinary file but a pipe, socket or device", remedy="remove it from the corpus"
        )
    path.open("rb").close()  # raises where the file may not be read, which FFmpeg would report as broken
    size = status.st_size
    if size == 0:
        raise CorruptFileError(f"{candidate.path} is empty", remedy="copy or download the file again")
    if is_crop(path):
        raise PrivFedTalkError("it is a crop that a run has made, not a clip", remedy="give the clip it was made of")
    seen, heard = PacketDigest(), PacketDigest()
    video = open_video(path, limits, seen.note)
    if video.comment.startswith(MADE_HERE):
        made = video.comment.removeprefix(MADE_HERE)
        raise PrivFedTalkError(f"it is {made} that a run has made, not a clip", remedy="remove it from the corpus")
    sound = _heard(path, limits, heard)
    cut = load_conversions(converted_beside(path))  # what was converted when the clip was cut here
    return Clip(
        clip_id=f"{candidate.speaker}/{candidate.name}",
        speaker=candidate.speaker,
        path=candidate.path,
        corpus=str(kind),
        subset=candidate.subset,
        **asdict(video.facts),
        bytes=size,
        sha256=sha256_of(path),
        sidecar=candidate.sidecar,
        truth=candidate.truth,
        pictures_sha256=seen.pictures,
        sound_sha256=heard.sound,
        conversions=video.conversions.with_those(sound).with_those(cut),
    )


def _heard(path: Path, limits: MediaSettings, digest: PacketDigest) -> Conversions:
    """What is converted in the sound, whose packets `digest` hashes. Sound that cannot be read is no error here, only
    where it is needed: a clip may do without."""
    try:
        return open_sound(path, limits).look(digest.note)
    except CorruptFileError:
        return Conversions()
