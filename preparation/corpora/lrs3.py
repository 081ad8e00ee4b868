"""LRS3 (Afouras et al., 2018) in its official layout, which the studio shares.

    <root>/{pretrain,trainval,test}/<youtube_id>/<00001>.{mp4,txt}

Beside a clip of the studio lies `<00001>.truth.safetensors` with the true landmarks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import CorruptFileError, PrivFedTalkError
from common.text.tables import read_lines
from preparation.corpora.candidate import Candidate, safe_name
from preparation.corpora.lists import SUBSETS, read_lists
from preparation.corpora.walking import holds, may_be_clip, tour, walk
from preparation.quarantine import QuarantineRow
from preparation.settings import CorpusSettings


def find(root: Path, settings: CorpusSettings) -> Iterator[Candidate]:
    """Every clip of the chosen subsets, or those of them that lists name, sorted by subset, speaker and clip."""
    selected = read_lists(settings.lists) if settings.lists else None
    present = [subset for subset in settings.subsets if (root / subset).is_dir()]
    if not present:
        raise PrivFedTalkError(
            f"{root} holds none of the LRS3 subset folders {', '.join(settings.subsets)}",
            remedy="point --root at the folder that holds them, or use --corpus folder for plain clips",
        )
    if selected is None:
        yield from _beside(root, settings)
    for subset in present:
        for path in walk(root / subset, settings.extensions):
            parts = path.relative_to(root / subset).parts
            truth = path.with_name(f"{path.stem}.truth.safetensors")
            sidecar = path.with_suffix(".txt")
            candidate = Candidate(
                path=path.relative_to(root).as_posix(),
                speaker=safe_name(parts[0] if parts else subset),
                name=safe_name(path.stem),
                subset=subset,
                sidecar=sidecar.relative_to(root).as_posix() if holds(sidecar.exists) else None,
                truth=truth.relative_to(root).as_posix() if holds(truth.exists) else None,
                refusal=_MISPLACED if len(parts) != 2 and not holds(path.is_dir) else None,
            )
            if selected is None or (candidate.refusal is None and selected.holds(candidate)):
                yield candidate


_MISPLACED = (
    "it lies at another depth than the clips of LRS3",
    "put it at <subset>/<video>/<clip>, or use --corpus folder",
)


def _beside(root: Path, settings: CorpusSettings) -> Iterator[Candidate]:
    """Candidates, each with a refusal, for what lies beside the subsets and may hold clips: it is not read."""
    for entry in sorted(root.iterdir()):
        if entry.name in SUBSETS or entry.name.startswith("."):
            continue
        if holds(entry.is_dir) and next(walk(entry, settings.extensions), None) is not None:
            refusal = (f"{entry.name} is none of LRS3's subsets", f"put its clips into one of {', '.join(SUBSETS)}")
            yield Candidate(entry.name, "", "", refusal=refusal)
    top = next(tour(root), None)
    for name in (top[1] or ()) if top else ():
        if may_be_clip(name, settings.extensions):
            yield Candidate(name, "", "", refusal=_MISPLACED)


def not_found(found: Iterable[Candidate], settings: CorpusSettings) -> list[QuarantineRow]:
    """Rows for what the lists name and `find` did not yield, and for their lines that name nothing."""
    if not settings.lists:
        return []
    selected = read_lists(settings.lists)
    return [*selected.rows, *selected.absent(candidate for candidate in found if candidate.refusal is None)]


@dataclass(frozen=True)
class Word:
    """A spoken word, its start and end in seconds, and the score of the active-speaker detection."""

    text: str
    start_seconds: float
    end_seconds: float
    score: float


@dataclass(frozen=True)
class Sidecar:
    """The text file beside a clip.

    boxes: float32 [N, 4] as x, y, width, height in fractions of the *original* video's frame, of which the
    clip is already a crop; frame_numbers: int64 [N] in that video. Either may be empty, as may text and
    words.
    """

    text: str
    confidence: int | None
    reference: str
    frame_numbers: NDArray[np.int64]
    boxes: NDArray[np.float32]
    words: tuple[Word, ...]


def read_sidecar(path: Path) -> Sidecar:
    """Read the official format (Text / Conf / Ref, FRAME rows, WORD rows if any) and re-encoders' variants.

    Unknown lines between the blocks (some copies carry the audio segment's place) are ignored; a row of a known block
    that does not parse is an error. For the text alone, choose `spoken_text`, which raises none.
    """
    fields: dict[str, str] = {}
    frames: list[tuple[int, float, float, float, float]] = []
    words: list[Word] = []
    block = ""
    for number, raw in enumerate(read_lines(path, "the sidecar", lenient=True), start=1):
        line = raw.strip()
        columns = line.split()
        if not columns:
            block = ""
        elif columns[0] in {"Text:", "Conf:", "Ref:"}:
            fields[columns[0]] = " ".join(columns[1:])
        elif columns[:2] == ["FRAME", "X"] or columns[:2] == ["WORD", "START"]:
            block = columns[0]
        elif block:
            try:
                if block == "FRAME":
                    x, y, width, height = map(float, columns[1:5])
                    frames.append((int(columns[0]), x, y, width, height))
                else:
                    words.append(Word(columns[0], *_three_floats(columns[1:4])))
            except ValueError as error:
                raise CorruptFileError(
                    f"line {number} of {path} is not a {block} row: {line!r}",
                    remedy="compare the file with the original, or delete it (sidecars are optional)",
                ) from error
    return Sidecar(
        text=fields.get("Text:", ""),
        confidence=int(fields["Conf:"]) if fields.get("Conf:", "").isdecimal() and len(fields["Conf:"]) < 10 else None,
        reference=fields.get("Ref:", ""),
        frame_numbers=np.array([frame[0] for frame in frames], dtype=np.int64),
        boxes=np.array([frame[1:] for frame in frames], dtype=np.float32).reshape(-1, 4),
        words=tuple(words),
    )


def spoken_text(path: Path) -> str:
    """What is said in a clip, by its sidecar; "" where the sidecar is missing or unreadable, since it is optional."""
    try:
        lines = read_lines(path, "the sidecar", lenient=True)
    except PrivFedTalkError:
        return ""
    said = (columns[1:] for columns in map(str.split, lines) if columns[:1] == ["Text:"])
    return " ".join(next(said, []))


def _three_floats(columns: list[str]) -> tuple[float, float, float]:
    start, end, score = map(float, [*columns, "0"][:3])
    return start, end, score
