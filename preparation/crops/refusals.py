"""Clips refused for quality, remembered beside the crops: a rerun need not decode them to refuse them again.

<crops folder>/refused/<name>.json      the verdict, and what it was made from

Only verdicts of the filters are remembered: they are the same whenever clip, code, settings and tracker are. A file
that could not be read or a process that died may fare better the next time.
"""

from __future__ import annotations

import json
from pathlib import Path

from common.files import write_text
from preparation.crops.quality import Verdict


def remember_refusal(folder: Path, name: str, verdict: Verdict, made_from: dict[str, str]) -> None:
    """Write the verdict on a clip, whole or not at all; `made_from` is all that it depends on."""
    stored = {"reason": verdict.reason, "remedy": verdict.remedy, "made_from": made_from}
    write_text(_path(folder, name), json.dumps(stored, indent=1, ensure_ascii=False))


def remembered_refusal(folder: Path, name: str, made_from: dict[str, str]) -> Verdict | None:
    """The verdict of an earlier run, if it was made from the same; a damaged note is none."""
    try:
        stored = json.loads(_path(folder, name).read_text(encoding="utf-8"))
        return Verdict(stored["reason"], stored["remedy"]) if stored["made_from"] == made_from else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_refusal(folder: Path, name: str) -> None:
    _path(folder, name).unlink(missing_ok=True)


def _path(folder: Path, name: str) -> Path:
    # A folder of its own, because a clip may be called like any suffix.
    return folder / "refused" / f"{name}.json"
