"""Text from outside (names of folders, cards, file names) on its way into tables, pages and charts.

`safe_name` keeps names of clients harmless at the source; the functions here are for the writers, which also see text
that never was a name. None of them changes ordinary text.
"""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories of control, formatting (writing direction among it) and unassigned characters, and line ends."""

FORMULA = "=+-@\t\r\n＝＋－＠"
"""What makes a spreadsheet compute a cell (OWASP, "CSV Injection"), the full-width forms included."""

LONGEST = 300
"""Characters: a foreign sentence that is longer ends in an ellipsis."""

_FORMULA = re.compile(rf"'*[ ]*[{re.escape(FORMULA)}]")
_QUOTED = re.compile(rf"'+[ ]*[{re.escape(FORMULA)}]")
_FIGURE = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?\*?( ± \d+(\.\d+)?([eE][+-]?\d+)?)?( \[[-+.,e\d ]*\])?%?")


def is_invisible(character: str) -> bool:
    """Whether a character shows nothing, or moves or breaks what stands beside it."""
    return unicodedata.category(character) in _INVISIBLE


def printable(text: str, longest: int = 400) -> str:
    """The text on one line, of printable characters alone, cut to `longest` with an ellipsis."""
    plain = "".join(" " if is_invisible(letter) or letter.isspace() else letter for letter in text)
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def visible(text: str) -> str:
    """The text with a space for each character that shows nothing, or moves or breaks what stands beside it. Line ends
    stay, and so do characters that join the letters of a word or the people of an emoji."""
    return "".join(" " if letter != "\n" and not joins(letter) and is_invisible(letter) else letter for letter in text)


def joins(character: str) -> bool:
    """Whether an invisible character is part of the spelling: Persian, Indic scripts and emoji are written with it."""
    return character in ("\u200c", "\u200d")


def one_line(text: object, longest: int = LONGEST) -> str:
    """A foreign text on one line, without control and formatting characters (which could move a terminal's cursor or
    turn the direction of what follows), with white space folded, shortened to `longest` characters."""
    try:
        whole = str(text)
    except (RecursionError, ValueError):  # lists in lists without end, numbers of thousands of digits
        whole = "…"
    begun = whole[: 8 * longest]  # the rest is not looked at: it may be very long
    kept = "".join(each if unicodedata.category(each)[0] not in "CZ" else _space(each) for each in begun)
    joined = " ".join(kept.split())
    return joined if len(joined) <= longest and len(begun) == len(whole) else f"{joined[: longest - 1]}…"


def code_span(text: object, longest: int = LONGEST) -> str:
    """The text as Markdown's code span, in which nothing is markup, not even in a table's cell."""
    return f"`{one_line(text, longest).replace('`', chr(39)).replace('|', '¦') or ' '}`"


def _space(character: str) -> str:
    return " " if character.isspace() or unicodedata.category(character)[0] == "Z" else ""


def spreadsheet_cell(text: str) -> str:
    """The text in a form that a spreadsheet reads as text: an apostrophe goes before anything it would compute. Figures
    with their mark, error or interval stay as they are. `from_spreadsheet_cell` undoes it."""
    return f"'{text}" if _FORMULA.match(text) and not _FIGURE.fullmatch(text) else text


def from_spreadsheet_cell(text: str) -> str:
    """The text that `spreadsheet_cell` was given."""
    return text[1:] if _QUOTED.match(text) and not _FIGURE.fullmatch(text) else text


def markdown_cell(text: str) -> str:
    """The text as a cell of a Markdown table: one line, no HTML, no link or picture, no end of the cell."""
    plain = printable(text, longest=10_000).replace("\\", "\\\\").replace("|", "\\|")
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "\\`")
    return plain.replace("](", "]\\(").replace("][", "]\\[").replace("![", "!\\[").replace("://", ":\\//")


def latex_text(text: str) -> str:
    """The text as LaTeX prints it: one line, no command, no mathematics, no comment."""
    return "".join(_LATEX.get(letter, letter) for letter in printable(text, longest=10_000))


_LATEX = {letter: rf"\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "–": "--",
}
