"""After `--forget` nothing of a removed person is in any file of the run but what models have learnt."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from assets.preparation.corpus import _handle_absent
from common.folders import RunFolder
from common.text.redaction import pseudonyms, redact_run
from evaluation.results.card import card_figures
from preparation.clients.removal import Absent, settle_absent
from preparation.clients.roles import load_people, save_clients
from preparation.corpora.manifest import load_manifest, save_manifest
from preparation.quarantine import QuarantineRow, load_quarantine, replace_rows
from tests import small_whole_run as small
from training.adapters.folders import export_adapter, import_adapter
from training.adapters.membership import counted_in_release, learnt_from

GONE, SINGLE = "bela", "anna/00000"
"""Somebody who leaves wholly, and one clip, that was trained on, of somebody who stays."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained, evaluated, attacked, measured at night and reported, with records that other floors leave."""
    run = small.make_run(tmp_path_factory.mktemp("whole") / "mine")
    small.make_whole(run)
    out = run.root.parent / "out"
    export_adapter(run, run.client_adapter(GONE, "fedavg"), out, card_figures)
    import_adapter(run, out, "theirs")
    lines = [{"round": 1, "clients": ["anna", GONE]}, {"spent": {GONE: 1.5, "anna": 1.5}, "note": f"{GONE} left, too"}]
    (run.root / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run.federation("fedavg") / "notes.md").write_text(f"- the client {GONE} did not clip; belated, isabela\n")
    rows = [QuarantineRow(f"trainval/{GONE}/00099.mp4", "crops", "no face", "give another")]
    replace_rows(run.quarantine, ("crops",), rows)
    (run.root / "pictures").mkdir()
    (run.root / "pictures" / "coded_faces.png").write_bytes(b"faces of public people")
    return run.root


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> RunFolder:
    """The same after the corpus has lost them; the tables are what the steps before the removal make of it."""
    shutil.copytree(whole, tmp_path / "mine")
    folder = RunFolder(tmp_path / "mine")
    clips = [clip for clip in load_manifest(folder.manifest) if clip.speaker != GONE and clip.clip_id != SINGLE]
    save_manifest(clips, folder.manifest)
    left = {name: entry for name, entry in load_people(folder).items() if name != GONE}
    splits = {split: [clip for clip in ids if clip != SINGLE] for split, ids in left["anna"].splits.items()}
    save_clients(left | {"anna": replace(left["anna"], splits=splits)}, folder.people_table)
    return folder


def traces(run: RunFolder, *names: str) -> list[str]:
    """Where a name stands: in the bytes or in the name of any file, or in a cell of any table."""
    found = []
    for path in sorted(run.root.rglob("*")):
        place = str(path.relative_to(run.root))
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".parquet":
            content = pd.read_parquet(path).to_csv().encode()
        content = content.replace(b"belated, isabela", b"")
        found += [place for name in names if name in place or name.encode() in content]
    return found


@pytest.mark.slow(minutes=0.3)
def test_a_removed_person_is_in_no_file(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    weights = (run.adapter("fedavg") / "adapter_model.safetensors").read_bytes()
    panel = (run.nightly / "panel.json").read_bytes()
    assert len(traces(run, GONE)) > 40
    _handle_absent(run, forget=True)
    assert traces(run, GONE, SINGLE, SINGLE.replace("/", "_"), SINGLE.replace("/", "--")) == []
    said = capsys.readouterr().err
    assert "removed what was made of 4 clips" in said and "folders of 1 of their people" in said
    assert "models have learnt from them until they are trained anew: federation/fedavg/adapter, " in said
    assert "clients/anna/methods/fedavg/adapter" in said and GONE not in said

    # Counts can still be checked, and everybody else's is as it was.
    line = json.loads(run.rounds("fedavg").read_text())
    assert line["returned"] == ["anna", "forgotten-1", "cleo", "dora"] == line["clients"]
    assert counted_in_release(run, "fedavg") == set(line["returned"])
    first, second = map(json.loads, (run.root / "ledger.jsonl").read_text().splitlines())
    assert first["clients"] == ["anna", "forgotten-1"] and second["spent"] == {"forgotten-1": 1.5, "anna": 1.5}
    assert second["note"] == "forgotten-1 left, too"
    assert (
        "the client forgotten-1 did not clip; belated, isabela" in (run.federation("fedavg") / "notes.md").read_text()
    )
    assert (run.adapter("fedavg") / "adapter_model.safetensors").read_bytes() == weights
    assert (run.nightly / "panel.json").read_bytes() == panel and (run.root / "pictures").exists()
    assert (run.client_adapter("cleo", "fedavg") / "adapter_model.safetensors").exists()
    assert not run.shards("anna").exists() and run.shards("cleo").exists() and not load_quarantine(run.quarantine)
    assert settle_absent(run, forget=True) == Absent(0, 0)


def test_nothing_is_removed_unasked(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = traces(run, GONE)
    _handle_absent(run, forget=False)
    assert traces(run, GONE) == before and "`privfedtalk prepare --forget` removes it" in capsys.readouterr().err


def test_a_removal_that_was_interrupted_goes_on(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("preparation.clients.removal.forget_crop", interrupt)
        settle_absent(run, forget=True)
    settle_absent(run, forget=True)
    assert traces(run, GONE, SINGLE) == []


def test_whose_folder_went_before_is_taken_out_too(run: RunFolder) -> None:
    shutil.rmtree(run.client(GONE))
    assert settle_absent(run, forget=True).people == 1
    assert traces(run, GONE) == []


def test_a_public_person_leaves_nights_and_pictures_and_the_networks_are_named(run: RunFolder) -> None:
    clips = [clip for clip in load_manifest(run.manifest) if clip.speaker not in ("pia", "paul")]
    assert {"models/backbone", "models/rulers", "models/vae"} <= set(learnt_from(run, ["paul"]))
    save_manifest(clips, run.manifest)
    save_clients(
        {name: entry for name, entry in load_people(run).items() if name not in ("pia", "paul")}, run.people_table
    )
    settle_absent(run, forget=True)
    assert traces(run, "pia", "paul") == [] and not run.nightly.exists() and not (run.root / "pictures").exists()


def test_words_of_the_format_are_no_names(tmp_path: Path) -> None:
    """People may be called as keys, methods and outcomes are."""
    people = ["clients", "fedavg", "applied", "a b", "ü"]
    record = {
        "method": "fedavg", "outcome": "applied", "clients": ["clients", "fedavg", "ü"], "left_out": {"a b": "revoked"},
        "simulation": {"clients": {"clients": 1, "ü": 2}}, "reason": "a b: revoked; ab, clientship",
    }  # fmt: skip
    (tmp_path / "federation").mkdir()
    (tmp_path / "federation" / "rounds.jsonl").write_text(json.dumps(record) + '\n{"round"')
    (tmp_path / "federation" / "participants.json").write_text(json.dumps(record))
    names = pseudonyms(tmp_path, people)
    assert names == {"a b": "forgotten-1", "applied": "forgotten-2", "clients": "forgotten-3",
                     "fedavg": "forgotten-4", "ü": "forgotten-5"}  # fmt: skip
    assert len(redact_run(tmp_path, names)) == 2
    found = json.loads((tmp_path / "federation" / "participants.json").read_text())
    assert (found["method"], found["outcome"]) == ("fedavg", "applied")
    assert found["clients"] == ["forgotten-3", "forgotten-4", "forgotten-5"]
    assert found["left_out"] == {"forgotten-1": "revoked"}
    assert found["simulation"]["clients"] == {"forgotten-3": 1, "forgotten-5": 2}
    assert found["reason"] == "forgotten-1: revoked; ab, clientship"
    assert pseudonyms(tmp_path, ["x"]) == {"x": "forgotten-6"}
