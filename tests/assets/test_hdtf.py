"""HDTF from its tables, materialised: the videos are cut once, and what cannot be cut is listed."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from assets.preparation.corpus import clients, corpus, manifest, splits_disjoint
from common.errors import PrivFedTalkError
from common.folders import RunFolder
from pipelines.configuration.tree import load, read_overrides
from pipelines.resources import RunResource
from preparation.clients.roles import load_clients
from preparation.media.writing import encode
from preparation.quarantine import load_quarantine


def materialise(data: Path, *more: str, fail: bool = True) -> dg.ExecuteInProcessResult:
    overrides = [f"data={data}", "run=hdtf", "workers=1", "corpus.kind=hdtf", "preparation.corpus.cuts.size=64",
                 "training.privacy.seeded_noise=null", *more]  # fmt: skip
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [corpus, manifest, clients, splits_disjoint],
            instance=instance,
            resources={"run": RunResource(profile="small", overrides=read_overrides(overrides), keep=True)},
            raise_on_error=fail,
        )


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    """Two videos of one person and three clips in the tables, one of which has no crop."""
    videos, tables = tmp_path / "videos", tmp_path / "tables"
    tables.mkdir()
    for video in ("Anna0", "Anna1"):
        encode(np.full((100, 90, 160, 3), 90, dtype=np.uint8), None, videos / f"WDA_{video}.mp4")
    (tables / "WDA_annotion_time.txt").write_text("Anna0.mp4 00:00-00:01 00:02-00:04\nAnna1.mp4 00:01-00:03\n")
    (tables / "WDA_crop_wh.txt").write_text("Anna0_0.mp4 20 80 0 80\nAnna1_0.mp4 20 80 0 80\n")
    (tables / "WDA_resolution.txt").write_text("Anna0.mp4 90\nAnna1.mp4 90\n")
    (tables / "WDA_video_url.txt").write_text("Anna0 somewhere\nAnna1 elsewhere\n")
    return videos, tables


def test_tables_become_clients(sources: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    videos, tables = sources
    named = (f"corpus.root={videos}", f"corpus.tables={tables}", "preparation.clients.public_speaker_fraction=0")
    assert materialise(tmp_path, *named).success
    folder = RunFolder(tmp_path / "hdtf")
    (anna,) = load_clients(folder.people_table).values()
    assert sorted(anna.clips()) == ["WDA_Anna/WDA_Anna0_0", "WDA_Anna/WDA_Anna1_0"]
    assert not anna.one_video
    rows = {row.file: row.step for row in load_quarantine(folder.quarantine)}
    assert rows["WDA_Anna0_1"] == "cuts"
    capfd.readouterr()
    assert materialise(tmp_path, *named).success
    assert capfd.readouterr().err.count("unchanged, kept") == 3
    assert rows == {row.file: row.step for row in load_quarantine(folder.quarantine)}
    encode(np.full((100, 90, 160, 3), 60, dtype=np.uint8), None, videos / "WDA_Anna1.mp4")
    assert materialise(tmp_path, *named).success
    assert "cuts: 1/1 clips" in capfd.readouterr().err


def test_no_video_at_all_says_so(sources: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    named = (f"corpus.root={tmp_path / 'empty'}", f"corpus.tables={sources[1]}")
    with pytest.raises(PrivFedTalkError, match="source video is not in the folder") as caught:
        materialise(tmp_path, *named)
    assert "download it as WDA_Anna" in caught.value.remedy


def test_tables_are_hdtf_s(tmp_path: Path) -> None:
    with pytest.raises(PrivFedTalkError, match="corpus of kind folder has none"):
        load("small", ["corpus.kind=folder", f"corpus.root={tmp_path}", f"corpus.tables={tmp_path}"])
