"""Records of clips that were refused for quality, beside the crops: a rerun need not decode them to refuse them again.

<crops folder>/refused/<name>.json      the verdict, and what it was made from

Only verdicts of the filters are recorded, because they depend only on clip, code, settings and tracker. A file that
could not be read, or whose process died, may succeed the next time.
"""

from __future__ import annotations

import json
from pathlib import Path

from common.files import write_text
from preparation.crops.quality import Verdict


def remember_refusal(folder: Path, name: str, verdict: Verdict, made_from: dict[str, str]) -> None:
    """Write the verdict on a clip, whole or not at all; `made_from` is everything that it depends on."""
    stored = {"reason": verdict.reason, "remedy": verdict.remedy, "made_from": made_from}
    write_text(_path(folder, name), json.dumps(stored, indent=1, ensure_ascii=False))


def remembered_refusal(folder: Path, name: str, made_from: dict[str, str]) -> Verdict | None:
    """The verdict of an earlier run, where it was made from the same; None otherwise or where the record is damaged."""
    try:
        stored = json.loads(_path(folder, name).read_text(encoding="utf-8"))
        return Verdict(stored["reason"], stored["remedy"]) if stored["made_from"] == made_from else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_refusal(folder: Path, name: str) -> None:
    _path(folder, name).unlink(missing_ok=True)


def _path(folder: Path, name: str) -> Path:
    # In a folder of its own, because a clip's name may end like any suffix.
    return folder / "refused" / f"{name}.json"
