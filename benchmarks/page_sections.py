"""Pages in sections, each written by one command and left alone by the others.

A section begins with its mark, a line of the form `<!-- Below: written by ... -->`; the text before the first mark is
the page's head.
"""

from __future__ import annotations

import re
from pathlib import Path

_BEGIN = re.compile(r"(?m)^(?=<!-- Below: written by )")


def write_section(page: Path, mark: str, text: str) -> None:
    """Put `text`, which begins with `mark`, in the place of the section of that mark, or last; mark "" is the head."""
    head, *others = _BEGIN.split(page.read_text()) if page.exists() else [""]
    if not mark:
        head = text
    elif any(section.startswith(mark) for section in others):
        others = [text if section.startswith(mark) else section for section in others]
    else:
        others.append(text)
    parts = [part.strip() for part in (head, *others)]
    page.write_text("\n\n".join(part for part in parts if part) + "\n")
