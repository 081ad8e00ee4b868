"""Tables as spreadsheets and editors of the world write them: read right, or refused with the line and the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import PrivFedTalkError
from common.text import tables as foreign_tables
from common.text.tables import cells_of, read_lines, read_table

COLUMNS = ("client", "who", "note")
GOOD = "client,who,note\nanna,Anna Müller,x\nbjörn,Björn,\n"


def written(tmp_path: Path, content: bytes | str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
    return path


def rows(path: Path) -> list[tuple[str, str, str]]:
    return [(row.cells["client"], row.cells["who"], row.cells["note"]) for row in read_table(path, COLUMNS, "it")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_notation_says_the_same(tmp_path: Path, encoding: str, delimiter: str, end: str) -> None:
    text = GOOD.replace(",", delimiter).replace("\n", end)
    assert rows(written(tmp_path, text, encoding)) == [("anna", "Anna Müller", "x"), ("björn", "Björn", "")]


@pytest.mark.parametrize(
    "text",
    [
        GOOD + "\n  \n,,\n",  # blank rows
        GOOD.replace("\n", ",,\n"),  # empty cells at the end
        GOOD.replace("client,who", " Client , WHO "),
        GOOD.replace("client,who,note", '"client","who","note"'),
        "sep=,\n" + GOOD,
        "note,client,who\nx,anna,Anna Müller\n,björn,Björn\n",
        GOOD.replace("Anna Müller", ' "Anna Müller"').replace(' "', '"'),
        GOOD.removesuffix("\n"),
    ],
)
def test_what_spreadsheets_leave_changes_nothing(tmp_path: Path, text: str) -> None:
    assert rows(written(tmp_path, text)) == [("anna", "Anna Müller", "x"), ("björn", "Björn", "")]


def test_a_quoted_line_end_is_part_of_its_cell_and_lines_are_counted_on(tmp_path: Path) -> None:
    path = written(tmp_path, 'client,who,note\nanna,"Anna\nMüller",x\nbjörn,Björn\n')
    with pytest.raises(PrivFedTalkError, match="line 4 has 2 cells, its first line 3"):
        read_table(path, COLUMNS, "it")
    path.write_text('client,who,note\nanna,"Anna\nMüller",x\n')
    assert rows(path) == [("anna", "Anna\nMüller", "x")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (GOOD.encode("cp1252"), r"not UTF-8: line 2 .* Windows-1252 it would be 'anna,Anna Müller,x'"),
        (GOOD.encode("utf-16-le"), "seems to be UTF-16 without a byte order mark"),
        (GOOD.encode("utf-16-be"), "seems to be UTF-16 without a byte order mark"),
        (b"\xff\xfea", "begins as UTF-16, but is not valid"),
        (GOOD.replace("x", "\0").encode(), r"holds NUL bytes \(line 2\)"),
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\x81\x8d,who,note\n", "its encoding is not known"),
        (GOOD.replace(",note", "").encode(), "lacks the column note"),
        (GOOD.replace("note", "note,revoked").encode(), "line 1: unknown column revoked"),
        (GOOD.replace("who,note", "who,note,Who").encode(), "line 1: the column who is there twice"),
        (GOOD.replace(",x", "").encode(), "line 2 has 2 cells, its first line 3"),
        (GOOD.replace(",x", ",x,y").encode(), "line 2 has 4 cells, its first line 3"),
        (GOOD.replace("Anna", '"Anna').encode(), "is no row"),
        (GOOD.replace("Anna", "A" * 200_000).encode(), "line 2 is no row: field larger"),
    ],
)
def test_what_would_have_to_be_guessed_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(PrivFedTalkError, match=said) as raised:
        read_table(written(tmp_path, content), COLUMNS, "the table")
    assert "table.csv" in raised.value.reason and raised.value.remedy


def test_what_is_no_file_is_refused_and_nothing_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("absent", "No such file"), (".", "is no file"), ("pipe", "is no file")):
        with pytest.raises(PrivFedTalkError, match=said):
            read_lines(tmp_path / name, "the list")
    monkeypatch.setattr(foreign_tables, "LARGEST_BYTES", 2**20)
    with pytest.raises(PrivFedTalkError, match="more than 1 MiB"):
        read_lines(written(tmp_path, b"x" * (2**20 + 1)), "the list")


def test_one_column_of_a_table_of_anything(tmp_path: Path) -> None:
    path = written(tmp_path, 'id;Path;what\n1;a/1;"x;y"\n2\n')
    assert cells_of(path, "path", "it") == [(2, "a/1"), (3, "")]
    assert cells_of(written(tmp_path, "a/1\na/2\n"), "path", "it") is None


@settings(max_examples=300)
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: ("client,who,note\n" + text).encode("utf-16")))
def test_any_bytes_are_rows_or_a_plain_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    for read in (lambda: read_table(path, COLUMNS, "it"), lambda: cells_of(path, "path", "it")):
        try:
            read()
        except PrivFedTalkError as error:
            assert error.remedy
