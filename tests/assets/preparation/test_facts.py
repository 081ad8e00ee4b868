"""Facts about crops are counted clip by clip, wherever a clip's crop lies and whoever's it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from assets.preparation.facts import crop_facts, crop_facts_of, placed_clips, public_version
from common.folders import RunFolder
from preparation.clients.roles import Client, save_clients
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import save_manifest
from preparation.quarantine import QuarantineRow, save_quarantine

ROW = Clip(
    clip_id="", speaker="", path="", corpus="x", subset="", frames=50, fps=25.0, width=64, height=64, seconds=2.0,
    audio_rate_hz=16000, bytes=1, sha256="0" * 64, sidecar=None, truth=None,
)  # fmt: skip
CLIPS = ("host/1", "host/2", "other/1", "guest/1", "guest/2", "left/1")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two clients, one guest with a clip at each of them, and a clip without a place; one guest's clip is refused."""
    run = RunFolder(tmp_path)
    clips = [replace(ROW, clip_id=name, speaker=name.split("/")[0], path=f"{name}.mp4") for name in CLIPS]
    save_manifest(clips, run.manifest)
    guest = {"guest/1": "guest"}, {"guest/2": "guest"}
    empty: dict[str, list[str]] = {"validation": [], "test": []}
    save_clients(
        {
            "host": Client("client", "host", {"train": ["host/1", "host/2", "guest/1"], **empty}, people=guest[0]),
            "other": Client("client", "other", {"train": ["other/1", "guest/2"], **empty}, people=guest[1]),
        },
        run.people_table,
    )
    for clip in ("host/1", "host/2", "other/1", "guest/1"):
        path = run.crops_of(clip) / f"{clip.split('/')[1]}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"frames": 40, "quality": {"face_rate": 1.0}, "tracker": "truth"}))
    save_quarantine([QuarantineRow("guest/2.mp4", "quality", "too dark", "more light")], run.quarantine)
    return run


def test_a_bucket_counts_its_guests_and_no_one_elses(run: RunFolder) -> None:
    groups = placed_clips(run, {"000": ["host"], "001": ["other"], "002": []})
    facts = crop_facts_of(run, groups)
    counts = {name: (found.clips, found.speakers, found.crops, found.refused) for name, found in facts.items()}
    assert counts == {"000": (3, 2, 3, 0), "001": (2, 2, 1, 1), "002": (0, 0, 0, 0)}
    assert facts["001"].face_rate == pytest.approx(40 / 90)


def test_everybody_together(run: RunFolder) -> None:
    facts = crop_facts(run)
    assert (facts.clips, facts.speakers, facts.crops, facts.refused, facts.frames) == (6, 4, 4, 1, 160)


def test_only_public_people_decide_what_is_trained_on_them(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    splits: dict[str, list[str]] = {"train": ["p/1"], "validation": [], "test": []}
    own = {**splits, "train": ["c/1"]}
    save_clients({"p": Client("public", "p", splits), "c": Client("client", "c", own)}, run.people_table)
    for name in ("p", "c"):
        run.shards(name).mkdir(parents=True)
        (run.shards(name) / "index.json").write_text("1")
    first = public_version(run, "shards/index.json")
    (run.shards("c") / "index.json").write_text("2")
    save_clients({"p": Client("public", "p", splits), "d": Client("client", "d", own)}, run.people_table)
    assert public_version(run, "shards/index.json") == first
    (run.shards("p") / "index.json").write_text("2")
    second = public_version(run, "shards/index.json")
    assert second != first
    held_out = {"train": [], "validation": ["p/1"], "test": []}
    save_clients({"p": Client("public", "p", held_out)}, run.people_table)
    assert public_version(run, "shards/index.json") not in (first, second)


@pytest.mark.parametrize("content", ["{", "{}", '{"frames": null, "quality": {"face_rate": 1}, "tracker": "a"}', "[]"])
def test_a_description_that_cannot_be_read_ends_nothing(
    run: RunFolder, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.crops_of("host/2") / "2.json").write_text(content)
    facts = crop_facts(run)
    assert (facts.clips, facts.crops, facts.frames, facts.tracker) == (6, 3, 120, "truth")
    assert "host/2" in capsys.readouterr().err
