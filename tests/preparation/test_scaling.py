"""Ten times the clients cost ten times the work and no more: tables are read and written a fixed number of times.

Counted, not timed: clips are rows of a manifest, without videos.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.folders import RunFolder
from preparation import pipeline, quarantine
from preparation.clients import dealing
from preparation.clients import roles as clients
from preparation.clients.buckets import by_bucket
from preparation.clients.features import ClipFeatures
from preparation.corpora import manifest
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import Scan
from preparation.pipeline import build_all_shards, prepare_clients, register_corpus
from preparation.settings import FaceSettings, PartitionRule, PartitionSettings, PreparationSettings

BUCKETS = 16
SETTINGS = PreparationSettings(
    faces=FaceSettings(tracker="truth"),
    partition=PartitionSettings(by=PartitionRule.DIRICHLET, clients=50),
)


def rows(people: int) -> list[Clip]:
    return [
        Clip(
            clip_id=f"c{who:05d}/{number}", speaker=f"c{who:05d}", path=f"trainval/c{who:05d}/{number}.mp4", corpus="x",
            subset="trainval", frames=20, fps=25.0, width=64, height=64, seconds=0.8, audio_rate_hz=16000, bytes=1,
            sha256=f"{who}/{number}", sidecar=None, truth=None,
        )
        for who in range(people)
        for number in range(3)
    ]  # fmt: skip


def counted(monkeypatch: pytest.MonkeyPatch, people: int, root: Path) -> Counter[str]:
    """How often each table was read and written, and clips judged, by register, crops, dealing and shards in buckets;
    every clip is missing, so that each ends as a row."""
    calls: Counter[str] = Counter()

    with monkeypatch.context() as patch:

        def count(name: str, *modules: Any) -> None:
            original: Callable[..., Any] = getattr(modules[0], name)

            def wrapped(*arguments: Any, **named: Any) -> Any:
                calls[name] += 1
                return original(*arguments, **named)

            for module in modules:
                patch.setattr(module, name, wrapped)

        patch.setattr(pipeline, "scan", lambda *_: Scan(rows(people), []))
        looks = np.random.default_rng(0).normal(size=(people, 4))
        features = {
            clip.clip_id: ClipFeatures(looks[place // 3], np.zeros((20, 2))) for place, clip in enumerate(rows(people))
        }
        patch.setattr(dealing, "measure_clips", lambda *_: features)
        count("load_manifest", manifest, pipeline, dealing)
        count("save_manifest", manifest, pipeline)
        count("load_clients", clients, pipeline)
        count("load_people", clients, pipeline, dealing)
        count("save_clients", clients, pipeline, dealing)
        count("load_quarantine", quarantine)
        count("save_quarantine", quarantine)
        count("prepare_clip", pipeline)
        count("build_shards", pipeline)

        run = RunFolder(root)
        register_corpus("studio", root / "corpus", run, SETTINGS)
        for names in by_bucket((f"c{who:05d}" for who in range(people)), BUCKETS):
            prepare_clients(run, root, SETTINGS, only=names)
        table = dealing.deal_run(run, SETTINGS)
        for names in by_bucket(table, BUCKETS):
            build_all_shards(run, lambda frames: frames.astype(np.float32), SETTINGS, only=names)
    return calls


@pytest.mark.slow(minutes=0.1)
def test_tables_are_read_as_often_for_many_clients_as_for_few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    few, many = (counted(monkeypatch, people, tmp_path / str(people)) for people in (60, 300))
    assert (few.pop("prepare_clip"), many.pop("prepare_clip")) == (180, 900)
    assert few == many
    assert few["save_quarantine"] == few["load_quarantine"] == 1 + 1 + 2 * BUCKETS
    assert few["save_clients"] == 3 and few["build_shards"] == 50
