"""Which pieces a recording became: a small record beside its crops, written when all of them are there.

<crops folder>/pieces/<name>.json       the pieces in order of time, and those that were refused

A clip without such a record has one crop of its own name, or none. The record is the only place that says which pieces
count: crops of pieces without it are left by a killed process.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count, takewhile
from pathlib import Path

from common.files import write_text
from preparation.corpora.clip import piece_name
from preparation.media.rates import FPS

CROP_SUFFIXES = (".json", ".safetensors", ".mp4")
"""The files of a crop; the first is its description, without which it does not count."""


@dataclass(frozen=True)
class Piece:
    """A piece that has a crop: the crop's name, its first frame in the recording, and how many it has."""

    name: str
    first_frame: int
    frames: int

    @property
    def stop(self) -> int:
        return self.first_frame + self.frames


@dataclass(frozen=True)
class RefusedPiece:
    """A piece that failed a filter; the reason names its time."""

    reason: str
    remedy: str


@dataclass(frozen=True)
class Pieces:
    """What a recording became."""

    pieces: tuple[Piece, ...]
    refused: tuple[RefusedPiece, ...]


def write_pieces(
    folder: Path, name: str, pieces: Sequence[Piece], refused: Sequence[RefusedPiece], made_from: dict[str, str]
) -> None:
    """Write the record of a recording, whole or not at all; `made_from` is everything that its crops depend on."""
    stored = {
        "made_from": made_from,
        "pieces": [asdict(piece) for piece in pieces],
        "refused": [asdict(piece) for piece in refused],
    }
    write_text(_path(folder, name), json.dumps(stored, indent=1, ensure_ascii=False))


def read_pieces(folder: Path, name: str, made_from: dict[str, str] | None = None) -> Pieces | None:
    """The record of a recording; None where there is none, where it is damaged, or where it was made from something
    else than `made_from`."""
    try:
        stored = json.loads(_path(folder, name).read_text(encoding="utf-8"))
        if made_from is not None and stored["made_from"] != made_from:
            return None
        return Pieces(
            tuple(Piece(**each) for each in stored["pieces"]),
            tuple(RefusedPiece(**each) for each in stored["refused"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def has_pieces(folder: Path) -> bool:
    """Whether any clip in a person's crops folder became pieces; one look at the disk."""
    return (folder / "pieces").is_dir()


def crop_names(folder: Path, name: str) -> list[str]:
    """The names of a clip's crops: its pieces, or its own name where it is in one piece or has no crop."""
    record = read_pieces(folder, name)
    return [name] if record is None else [piece.name for piece in record.pieces]


def forget_pieces(folder: Path, name: str) -> None:
    """Remove the crops of a recording's pieces, and then its record.

    Pieces of the record may have been removed before, as damaged ones are. Those that a killed process left without a
    record are numbered without holes, and the last one is removed first. So a removal that is interrupted finds the
    rest when it begins again.
    """
    record = read_pieces(folder, name)
    for piece in () if record is None else record.pieces:
        remove_files(folder, piece.name)
    numbers = takewhile(lambda number: any(path.exists() for path in _files(folder, name, number)), count())
    for number in reversed(list(numbers)):
        remove_files(folder, piece_name(name, number))
    _path(folder, name).unlink(missing_ok=True)


def remove_files(folder: Path, name: str) -> None:
    """Remove the files of one crop, its description first."""
    for suffix in CROP_SUFFIXES:
        (folder / f"{name}{suffix}").unlink(missing_ok=True)


def recorded_clips(folder: Path) -> list[str]:
    """The names of the clips in a person's crops folder that have a record."""
    return sorted(path.stem for path in (folder / "pieces").glob("*.json"))


def times(first_frame: int, stop: int) -> str:
    """A stretch of time in a recording: `12.4–15.0 s`."""
    return f"{first_frame / FPS:.1f}–{stop / FPS:.1f} s"


def _files(folder: Path, name: str, number: int) -> list[Path]:
    return [folder / f"{piece_name(name, number)}{suffix}" for suffix in CROP_SUFFIXES]


def _path(folder: Path, name: str) -> Path:
    # In a folder of its own, so that it is not taken for a crop's description.
    return folder / "pieces" / f"{name}.json"
