"""Marks as not private the models that earlier versions trained, whose privacy rules were unsound."""

from __future__ import annotations

import json
from typing import Any

from common.files import write_text
from common.folders import ADAPTER_RECORD, RunFolder
from training.claims.report import RULES

SENTENCE = (
    "Made under rules that did not hold: cohorts followed from a published seed, sums that an interruption lost and "
    "earlier releases on the same clients were not counted, and any δ was taken for a promise."
)


def mark_outdated(run: RunFolder, method: str) -> bool:
    """Mark a method's report and adapter as not private if an earlier version made them; True if it did."""
    path = run.privacy(method)
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if report.get("rules", 1) >= RULES:
        return False
    report.pop("took_part", None)
    others = [sentence for sentence in report["violations"] if sentence != SENTENCE]
    mark = f"NOT PRIVATE: {SENTENCE}"
    report |= {
        "private": False,
        "guarantee_holds": False,
        "verdict": "NOT PRIVATE",
        "mark": mark,
        "note": f"{SENTENCE} Nothing is promised; train it anew.",
        "violations": [SENTENCE, *others],
        "epsilon_client": None,
        "accountant_client": "not counted then",
        "together": {"epsilon": None, "accountant": "not counted then", "releases": 1, "without_promise": []},
        "rules": report.get("rules", 1),
    }
    write_text(path, json.dumps(report, indent=1, allow_nan=False) + "\n")
    lines = ["# Privacy report", "", f"**NOT PRIVATE.** {report['note']}", ""]
    write_text(path.with_suffix(".md"), "\n".join([*lines, *(f"- {sentence}" for sentence in others), ""]))
    record_path = run.adapter(method) / ADAPTER_RECORD
    if record_path.exists():
        record = json.loads(record_path.read_text(encoding="utf-8")) | {"privacy": mark}
        write_text(record_path, json.dumps(record, indent=2) + "\n")
    return True
