"""Made text files: what people keep tables, lists and settings in, in many encodings, with damage."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.fuzz.damage import Damage, damaged, damages

ENCODINGS = (
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "cp1252",
    "latin-1",
    "utf-32",
    "cp437",
    "mac-roman",
)
LINE_ENDS = ("\n", "\r\n", "\r", "\n\n", "\x85", "\u2028")
SEPARATORS = (",", ";", "\t", "|", " ", ", ")
CELLS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ("", "anna", "Ada [/form]", "=1+1", "-FOCpMAww28", "Müller", "Mu\u0308ller", "2027-12-31", "0123", "no", "null",
         "nan", "inf", "1e999", "training;generation", "00:30-01:00", '"', "'", "\\", "a\\b", "../..", "\x00",
         "\x1b[2J", "412 599 0 599",
         "\u202e", "😀", "x" * 300, "9" * 5000, "[[[[", "{", "&a [*a]", "!!python/object:os.system", "%", "#",
         "pretrain/-FOCpMAww28/00002", "FRAME X Y W H", "WORD START END ASDSCORE", "Text:", "Conf:")
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Text:
    """A text, how it is written down, and what happens to its bytes."""

    text: str
    encoding: str
    damage: tuple[Damage, ...]

    def bytes(self) -> bytes:
        whole = self.text.encode(self.encoding, "replace")
        for one in self.damage:
            whole = damaged(whole, one)
        return whole


@st.composite
def texts(draw: st.DrawFn, head: tuple[str, ...] = (), seeds: tuple[str, ...] = ()) -> Text:
    """Tables that mostly begin with the row `head`, or one of `seeds`, right texts, with something changed in it."""
    separator, end = draw(st.sampled_from(SEPARATORS)), draw(st.sampled_from(LINE_ENDS))
    if bool(seeds) and draw(st.booleans()):
        lines = draw(st.sampled_from(seeds)).splitlines()
        for _ in range(draw(st.integers(0, 3))):
            at = draw(st.integers(0, len(lines)))
            lines.insert(at, draw(st.one_of(CELLS, st.sampled_from(lines) if lines else CELLS)))
    else:
        rows = draw(st.lists(st.lists(CELLS, max_size=6), max_size=6))
        lines = [separator.join(row) for row in ([list(head)] if bool(head) and draw(st.booleans()) else []) + rows]
    damage = draw(st.lists(damages(), max_size=2))
    return Text(end.join(lines), draw(st.sampled_from(ENCODINGS)), tuple(damage))
