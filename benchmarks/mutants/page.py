"""The part of docs/security.md that a whole run writes."""

from __future__ import annotations


def write_page(*arguments: object) -> None:
    """Nothing yet."""
