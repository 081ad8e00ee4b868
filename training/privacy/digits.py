"""How ε and δ are printed, the same everywhere."""

from __future__ import annotations

import math


def three_digits(value: float | None, absent: str = "none") -> str:
    """An ε or δ in three digits, a large one in full; `absent` where there is none."""
    if value is None or math.isnan(value):
        return absent
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
