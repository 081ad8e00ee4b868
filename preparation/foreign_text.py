"""Text that somebody else wrote, made fit to be shown: as text, on one line, of bounded length."""

from __future__ import annotations

import unicodedata

LONGEST = 300
"""Characters: a foreign sentence that is longer ends in an ellipsis."""


def one_line(text: object, longest: int = LONGEST) -> str:
    """The text on one line without control and formatting characters (which could move a terminal's cursor, or turn
    the direction of what follows), shortened to `longest` characters."""
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
