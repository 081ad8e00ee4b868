"""Text from outside stays text in every table, and ordinary text stays as it is."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from common.text.foreign import (
    LONGEST,
    code_span,
    from_spreadsheet_cell,
    latex_text,
    markdown_cell,
    one_line,
    printable,
    spreadsheet_cell,
)
from preparation.corpora.candidate import LONGEST_BYTES, Candidate, part_alike, safe_name
from preparation.corpora.manifest import scan
from tests.preparation.media.test_limits import regular, write

HOSTILE = (
    "a$b_{$", "=HYPERLINK(1)", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "'=1", "''+1",
    "a|b", "a\\|b", "<img src=x onerror=alert(1)>", "![x](http://a/b.png)", "[x](javascript:1)", "`x`", "line\nbreak",
    "\\input{secret}", "x^2_y%z#~", "‮gnp.evil", "😀" * 90, "x" * 5000, "שלום", "[/]", "[red]", "..", "con",
    "_hidden", "$", "\\$", "a\x00b", "&amp;",
)  # fmt: skip


@given(st.text(max_size=60) | st.sampled_from(HOSTILE))
def test_a_spreadsheet_computes_nothing_and_names_come_back(text: str) -> None:
    cell = spreadsheet_cell(text)
    assert from_spreadsheet_cell(cell) == text
    assert cell.lstrip(" ")[:1] not in {"=", "@", "\t", "\r", "＝"}


@pytest.mark.parametrize(
    "figure", ["-0.25", "+1", "-1e-05", "-0.123* [-0.200, 0.100]", "+0.4 ± 0.1", "-3.5%", "–", "abc"]
)
def test_figures_and_plain_text_stay(figure: str) -> None:
    assert spreadsheet_cell(figure) == figure == from_spreadsheet_cell(figure) == markdown_cell(figure)


@pytest.mark.parametrize("text", ["-FOCpMAww28", "=1+1", "-2+3", "+1 234 5678"])
def test_what_begins_as_a_formula_is_marked_as_text(text: str) -> None:
    assert spreadsheet_cell(text) == f"'{text}"


@given(st.text(max_size=60) | st.sampled_from(HOSTILE))
def test_a_cell_of_markdown_is_one_cell_without_html_or_links(text: str) -> None:
    cell = markdown_cell(text)
    assert not set(cell) & set("\n\r<>") and "](" not in cell and "![" not in cell and "://" not in cell
    escaped = False
    for letter in cell:
        assert escaped or letter not in "|`", cell
        escaped = letter == "\\" and not escaped
    assert not escaped, "a backslash at the end would join two cells"


@given(st.text(max_size=60) | st.sampled_from(HOSTILE))
def test_latex_sees_no_command_of_a_name(text: str) -> None:
    told = latex_text(text)
    for ours in (r"\textbackslash{}", r"\textasciicircum{}", r"\textasciitilde{}", r"\textless{}", r"\textgreater{}",
                 r"$\pm$", r"$\uparrow$", r"$\downarrow$", *(rf"\{letter}" for letter in "&%$#_{}")):  # fmt: skip
        told = told.replace(ours, "")
    assert not set(told) & set("\\&%$#_{}^~<>\n")


@given(st.text(max_size=300), st.integers(1, 50))
def test_one_line_is_short_and_visible(text: str, longest: int) -> None:
    line = printable(text, longest)
    assert len(line) <= longest
    assert not any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in line)


@given(st.text(max_size=300) | st.sampled_from(HOSTILE))
def test_safe_names_fit_any_disk_and_mean_nothing_to_a_writer(text: str) -> None:
    name = safe_name(text)
    assert name and len(name.encode()) <= LONGEST_BYTES and safe_name(name) == name
    assert not set(name) & set('/\\:*?"<>|. \n\t$%&;=@^`{}[]~#!') and name.upper() not in {"CON", "NUL", "COM1", "LPT9"}
    assert not any(unicodedata.category(letter) in ("Cc", "Cf", "Cs") for letter in name)


def test_names_that_one_disk_would_take_for_one_are_parted() -> None:
    composed, apart = "Jos\u00e9", "Jose\u0301"
    named = [(composed, "a"), (apart, "b"), ("jos\u00e9", "c"), ("Jose", "d"), ("Jose", "D"), ("Jose", "e")]
    candidates = [Candidate(f"{speaker}/{name}.mp4", speaker, name) for speaker, name in named]
    kept, rows = part_alike(candidates)
    assert [(one.speaker, one.name) for one in kept] == [(apart, "b"), ("Jose", "D"), ("Jose", "e")]
    assert sorted(row.file for row in rows) == sorted([f"{composed}/a.mp4", "jos\u00e9/c.mp4", "Jose/d.mp4"])
    assert all("differs from" in row.reason and row.remedy for row in rows)


def test_a_corpus_of_hostile_folders_is_scanned(tmp_path: Path) -> None:
    names = [name for name in HOSTILE if 0 < len(name.encode()) < 250 and not set(name) & set("/\x00") and name != ".."]
    for number, name in enumerate(names):
        (tmp_path / name).mkdir()
        write(tmp_path / name / f"clip{number}.mp4", regular(3))
    found = scan("folder", tmp_path)
    assert len(found.clips) == len(names) == len({clip.speaker for clip in found.clips}), found.quarantine
    (tmp_path / "ANNA").mkdir()
    (tmp_path / "anna").mkdir()
    for name in ("ANNA", "anna"):
        write(tmp_path / name / "x.mp4", regular(3))
    (row,) = scan("folder", tmp_path).quarantine
    assert row.file == "anna/x.mp4" and "ANNA" in row.reason


@given(st.text(max_size=2000))
def test_it_is_one_line_of_bounded_length_without_control_characters(text: str) -> None:
    shown = one_line(text)
    assert len(shown) <= LONGEST
    assert not any(unicodedata.category(each)[0] == "C" for each in shown)
    assert shown.splitlines() in ([], [shown])
    assert one_line(shown) == shown


def test_a_sentence_stays_as_it_is() -> None:
    assert one_line("Private: ε = 1.05, δ = 1e-05") == "Private: ε = 1.05, δ = 1e-05"
    assert one_line("x" * 301) == "x" * 299 + "…"
    assert one_line("a\n---\n\x1b[31mred\u202e") == "a --- [31mred"


@given(st.text(alphabet="`|<>&[]()!*_#-\n\r\\ahttp:/.", max_size=60))
def test_in_markdown_it_is_code_and_nothing_else(text: str) -> None:
    page = MarkdownIt("gfm-like", {"linkify": False}).parse(f"| a |\n|---|\n| {code_span(text)} |\n")
    cells = [token for token in page if token.type == "inline"]
    assert len(cells) == 2  # the head and one cell
    assert [each.type for each in cells[1].children or ()] == ["code_inline"]
