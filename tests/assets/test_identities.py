"""The identity check beside the crops: only where asked for, and said plainly where it could not be made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assets.preparation.shards import identity_facts
from pipelines.configuration.tree import load
from pipelines.resources import open_run
from preparation.clients.identity import IdentityReport, save_report


def test_only_where_asked_for_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVFEDTALK_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plain = open_run(load("small", [f"data={tmp_path}"]), keep=True)
    assert identity_facts(plain, anew=True) == {} and not plain.folder.identities.exists()
    asked = open_run(load("small", [f"data={tmp_path}", "preparation.identity.check=true"]), keep=True)
    assert "MobileFaceNet.onnx" in identity_facts(asked, anew=False)["identities"]
    assert json.loads(asked.folder.identities.read_text())["clients"] == 0
    thresholds = asked.preparation.identity.fingerprint()
    save_report(IdentityReport("mobilefacenet_onnx", None, 3, 7, (), (), 0.2, thresholds), asked.folder.identities)
    assert identity_facts(asked, anew=False)["identities"].startswith("7 clips of 3 clients: 0 show another face")
    # Other thresholds make another report, though the crops are the old ones.
    stricter = open_run(
        load("small", [f"data={tmp_path}", "preparation.identity.check=true", "preparation.identity.same_client=0.6"]),
        keep=True,
    )
    assert "not checked" in identity_facts(stricter, anew=False)["identities"]
    save_report(IdentityReport("mobilefacenet_onnx", None, 3, 7, (), (), 0.2, thresholds), asked.folder.identities)
    assert "not checked" in identity_facts(asked, anew=True)["identities"]
