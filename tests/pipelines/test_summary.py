"""What `prepare` says at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cli.summary import show_preparation
from preparation.folders import RunFolder
from preparation.identity import IdentityReport, Mismatch, SamePerson, save_report
from preparation.quarantine import QuarantineRow, replace_rows


def said(root: Path, capsys: pytest.CaptureFixture[str], identities: bool = False) -> str:
    show_preparation(root, identities)
    return " ".join(capsys.readouterr().out.split())


def test_refused_clips_are_named_with_reason_and_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [QuarantineRow(f"{name}.mp4", "quality", "no sound", "give the sound") for name in ("a", "b [x]")]
    replace_rows(RunFolder(tmp_path).quarantine, ("quality",), [*rows, QuarantineRow("c.mp4", "crops", "odd", "mend")])
    printed = said(tmp_path, capsys)
    assert "2 quarantined by quality: no sound ('a.mp4' and others); give the sound" in printed
    assert "1 quarantined by crops: odd ('c.mp4'); mend" in printed


def test_doubted_identities_are_told_when_they_were_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mismatches = tuple(Mismatch("grid", clip, 0.1, None) for clip in ("one", "two"))
    pair = SamePerson("ann", "anna", ("client", "client"), 0.97)
    report = IdentityReport("embedder", None, 3, 9, mismatches, (pair,), 0.2)
    save_report(report, RunFolder(tmp_path).identities)
    printed = said(tmp_path, capsys, identities=True)
    assert "2 show another face than their client's, 1 pairs of clients are one person" in printed
    assert "grid: 2 clips of another face" in printed and "ann and anna: one person (cosine 0.97)" in printed
    assert "one person" not in said(tmp_path, capsys)
