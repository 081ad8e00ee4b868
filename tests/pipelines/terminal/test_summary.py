"""What `prepare` and `demo` say at their ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.folders import RunFolder
from pipelines.terminal.summary import show_criteria, show_preparation
from preparation.clients.identity import IdentityReport, Mismatch, SamePerson, save_report
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import save_manifest
from preparation.media.conversions import Conversions
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


def test_no_conversion_goes_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What headers tell stands in the manifest, what decoding shows in the crop's description."""
    folder = RunFolder(tmp_path)
    plain = Clip("anna/plain", "anna", "plain.mp4", "folder", "", 50, 25.0, 96, 96, 2.0, 16_000, 9, "1", None, None)
    combed = replace(plain, clip_id="anna/combed", conversions=Conversions(deinterlaced=True))
    save_manifest([plain, combed], folder.manifest)
    assert said(tmp_path, capsys).count("deinterlaced: 1;") == 1
    crop = folder.crops_of(plain.clip_id) / "plain.json"
    crop.parent.mkdir(parents=True)
    crop.write_text(json.dumps({"conversions": {"deinterlaced": True, "filled_seconds": 0.5}}))
    assert "deinterlaced: 2, filled seconds: 1;" in said(tmp_path, capsys)
    save_manifest([replace(plain, clip_id="bob/plain", speaker="bob")], folder.manifest)
    assert "converted" not in said(tmp_path, capsys)


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


def criterion(name: str, value: float | None, met: bool | None) -> dict[str, Any]:
    return {"name": name, "value": value, "pass": met, "direction": "at least", "bar": 0.9, "what": "a share"}


def test_a_criterion_that_was_not_measured_is_reported_and_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """As the page does: it was neither met nor missed."""
    show_criteria([criterion("met", 0.95, True), criterion("missed", 0.1, False), criterion("absent", None, None)])
    printed = capsys.readouterr().out
    assert "1 of 2 acceptance criteria met, 1 not measured" in printed
    assert "missed: 0.100, wanted at least 0.9" in printed and "absent: not measured" in printed
    show_criteria([criterion("met", 0.95, True)])
    assert capsys.readouterr().out == "1 of 1 acceptance criteria met\n"
