"""The one reader of text and tables that people bring: consent tables, lists of clips, sidecars, HDTF's tables.

Spreadsheets write them in many ways. Accepted are UTF-8 and, with a byte order mark, UTF-16 and UTF-32; lines that end
in LF, CRLF or CR; cells separated by commas, semicolons, tabs or bars, quoted or not. Anything that would have to be
guessed is an error that names the file and the line: another encoding, NUL bytes, a row with more or fewer cells than
the header.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from common.errors import PrivFedTalkError
from common.text.names import composed

LARGEST_BYTES = 64 * 1024 * 1024
"""A list of a million clips has 40 MiB; more is no table that somebody typed."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

_MARKS = (  # UTF-32 first: its mark begins like UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_LINE_END = re.compile(r"\r\n|\r|\n")
_HINT = re.compile(r"sep=(.)$")
_AS_UTF8 = "save it as UTF-8 (in Excel: `CSV UTF-8`) and try again"


@dataclass(frozen=True)
class Row:
    """A row of a table: the line that it ends on, and its cells by the column's name, without blanks around."""

    line: int
    cells: dict[str, str]


def read_text(path: Path, what: str, lenient: bool = False) -> str:
    """The text of a file that people made, without a byte order mark; `what` is its name in errors ("the list").

    `lenient` replaces bytes that are not UTF-8 instead of refusing the file: for text of which only ASCII parts matter.
    Raises PrivFedTalkError where the file is not there, is too large, or its encoding would have to be guessed.
    """
    content = _bytes(path, what)
    encoding = encoding_of(content)
    wide = encoding.startswith(("utf-16", "utf-32"))
    if not wide and b"\0" in content:
        half = content.count(0) > len(content) // 4
        seems = "seems to be UTF-16 without a byte order mark" if half else "holds NUL bytes"
        raise PrivFedTalkError(f"{what} {path} {seems} (line {_line_of(content, content.index(0))})", remedy=_AS_UTF8)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if wide or not lenient:
            raise _not_utf8(path, what, content, encoding, error.start) from error
        text = content.decode(encoding, errors="replace")
    if "\0" in text:
        raise PrivFedTalkError(f"{what} {path} holds NUL characters", remedy=_AS_UTF8)
    return text


def encoding_of(content: bytes) -> str:
    """The Unicode encoding that a byte order mark names, else UTF-8."""
    return next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")


def read_lines(path: Path, what: str, lenient: bool = False) -> list[str]:
    """The lines of a file that people made, as an editor counts them; arguments and errors as in `read_text`."""
    return _LINE_END.split(read_text(path, what, lenient))


def read_table(path: Path, columns: Collection[str], what: str) -> list[Row]:
    """The rows of a table that has exactly these columns, in whatever order, case and notation.

    Blank rows and empty cells at the end of rows are ignored. Raises PrivFedTalkError, which names the line.
    """
    text = read_text(path, what)
    head = f"begin it with the line {','.join(columns)}"
    delimiter, text, skipped = _notation(text, columns)
    rows = _parsed(path, what, text, delimiter, skipped)
    if not rows:
        raise PrivFedTalkError(f"{what} {path} is empty", remedy=head)
    first, names = rows[0][0], _trimmed([_label(cell) for cell in rows[0][1]])
    missing = [name for name in columns if name not in names]
    if missing:
        raise PrivFedTalkError(f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}", remedy=head)
    other = [name or "without a name" for name in names if name not in columns]
    if other:
        raise PrivFedTalkError(
            f"{path}, line {first}: unknown column{'s' * (len(other) > 1)} {', '.join(other)[:80]}",
            remedy=f"remove it, or {head}: its cells would be ignored",
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise PrivFedTalkError(f"{path}, line {first}: the column {twice} is there twice", remedy="remove one of them")
    found: list[Row] = []
    for line, cells in rows[1:]:
        cells = [cell.strip() for cell in cells]
        if len(cells) > len(names):
            cells = [*cells[: len(names)], *_trimmed(cells[len(names) :])]
        if len(cells) != len(names):
            raise PrivFedTalkError(
                f"{path}, line {line} has {len(cells)} cell{'s' * (len(cells) > 1)}, its first line {len(names)}",
                remedy=f"give each row {len(names)} cells, separated by {DELIMITERS[delimiter]}; put quotation marks "
                "around a cell that holds them",
            )
        found.append(Row(line, dict(zip(names, cells, strict=True))))
    return found


def cells_of(path: Path, column: str, what: str, lenient: bool = False) -> list[tuple[int, str]] | None:
    """Line number and cell of each row in one column; None where the file's first line is no header that names it.

    Other columns are not checked, nor is their number; a row that ends before the column has an empty cell.
    """
    text = read_text(path, what, lenient)
    delimiter, text, skipped = _notation(text, [column])
    header = [_label(cell) for cell in _LINE_END.split(text, maxsplit=1)[0].split(delimiter)]
    if column not in header:
        return None
    rows, place = _parsed(path, what, text, delimiter, skipped)[1:], header.index(column)
    return [(line, cells[place].strip() if place < len(cells) else "") for line, cells in rows]


def _bytes(path: Path, what: str) -> bytes:
    try:
        if not path.is_file() and path.exists():
            raise PrivFedTalkError(f"{what} {path} is no file", remedy="name a file")
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PrivFedTalkError(f"{what} {path} cannot be read: {reason}", remedy="check the path") from error
    if len(content) > LARGEST_BYTES:
        raise PrivFedTalkError(
            f"{what} {path} has more than {LARGEST_BYTES // 2**20} MiB", remedy="name the right file, or split it"
        )
    return content


def _not_utf8(path: Path, what: str, content: bytes, encoding: str, place: int) -> PrivFedTalkError:
    if encoding != "utf-8":
        return PrivFedTalkError(f"{what} {path} begins as {encoding.upper()}, but is not valid", remedy=_AS_UTF8)
    line = _line_of(content, place)
    try:
        shown = content.splitlines()[line - 1].decode("cp1252")[:60]
        seems = f"in Windows-1252 it would be {shown!r}"
    except (UnicodeDecodeError, IndexError):
        seems = "its encoding is not known"
    return PrivFedTalkError(f"{what} {path} is not UTF-8: line {line} holds other bytes; {seems}", remedy=_AS_UTF8)


def _line_of(content: bytes, place: int) -> int:
    return len(_LINE_END.findall(content[:place].decode("latin-1"))) + 1


def _notation(text: str, columns: Collection[str]) -> tuple[str, str, int]:
    """The delimiter, the text without a spreadsheet's hint such as `sep=;`, and the number of lines removed for it."""
    first, _, rest = _split_line(text)
    hint = _HINT.match(first.strip())
    if hint and hint[1] in DELIMITERS:
        return hint[1], rest, 1
    known = {delimiter: {_label(cell) for cell in first.split(delimiter)} for delimiter in DELIMITERS}
    return max(DELIMITERS, key=lambda delimiter: len(known[delimiter] & set(columns))), text, 0


def _split_line(text: str) -> tuple[str, str, str]:
    end = _LINE_END.search(text)
    return (text[: end.start()], end[0], text[end.end() :]) if end else (text, "", "")


def _parsed(path: Path, what: str, text: str, delimiter: str, skipped: int) -> list[tuple[int, list[str]]]:
    """Each row that is not blank, with the number of the line it ends on."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num + skipped, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise PrivFedTalkError(
            f"{what} {path}, line {reader.line_num + skipped} is no row: {error}",
            remedy="close its quotation marks, and double those within a cell",
        ) from error


def _label(cell: str) -> str:
    """A column's name in the form in which names are compared."""
    return composed(cell.strip().strip('"').strip()).casefold()


def _trimmed(cells: list[str]) -> list[str]:
    """Cells without the empty ones at the end, which spreadsheets leave."""
    while cells and not cells[-1].strip():
        cells = cells[:-1]
    return cells
