"""Foreign text stays text: in a terminal, in Markdown, in a table."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from preparation.foreign_text import LONGEST, code_span, one_line


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
    assert [each.type for each in cells[1].children] == ["code_inline"]
