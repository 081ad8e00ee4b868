"""A mix, materialised: parts are linked, guests join clients, nothing in the parts changes."""

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
from preparation.clients.roles import load_people
from preparation.corpora.manifest import load_manifest
from preparation.media.writing import encode
from preparation.quarantine import load_quarantine


def materialise(data: Path, lrs3: Path, hdtf: str, *more: str) -> dg.ExecuteInProcessResult:
    parts = f"[{{kind: lrs3, root: {lrs3}}}, {{kind: hdtf, {hdtf}}}]"
    overrides = [f"data={data}", "run=mix", "workers=1", "corpus.kind=mix", f"corpus.parts={parts}",
                 "preparation.corpus.cuts.size=64", "training.privacy.seeded_noise=null", *more]  # fmt: skip
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [corpus, manifest, clients, splits_disjoint],
            instance=instance,
            resources={"run": RunResource(profile="small", overrides=read_overrides(overrides), keep=True)},
        )


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, Path, Path]:
    """An LRS3 folder with a public person and two clients, two ready HDTF clips, and a video with tables."""
    lrs3, ready, videos = tmp_path / "lrs3", tmp_path / "ready", tmp_path / "videos"
    clip = np.full((30, 90, 160, 3), 90, dtype=np.uint8)
    for more, place in enumerate(("pretrain/p0/00001", "trainval/a/00001", "trainval/a/00002", "trainval/b/00001")):
        encode(clip + 2 * np.uint8(more), None, lrs3 / f"{place}.mp4")
    for number in (0, 1):
        encode(clip - 2 * np.uint8(number + 1), None, ready / f"WDA_Guest_{number}.mp4")
    encode(np.full((60, 90, 160, 3), 60, dtype=np.uint8), None, videos / "RD_Radio1.mp4")
    (videos / "RD_annotion_time.txt").write_text("Radio1.mp4 00:01-00:02 00:00-00:02\n")
    (videos / "RD_crop_wh.txt").write_text("Radio1_0.mp4 20 80 0 80\n")
    (videos / "RD_resolution.txt").write_text("Radio1.mp4 90\n")
    return lrs3, ready, videos


@pytest.mark.slow(minutes=0.1)
def test_guests_join_and_parts_are_only_read(
    parts: tuple[Path, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lrs3, ready, videos = parts
    before = {path: path.stat().st_mtime_ns for part in parts for path in part.rglob("*")}
    assert materialise(tmp_path, lrs3, f"root: {ready}").success
    run = RunFolder(tmp_path / "mix")
    assert {clip.path.split("/")[0] for clip in load_manifest(run.manifest)} == {"lrs3", "hdtf"}
    people = load_people(run)
    assert set(people) == {"p0", "a", "b"}
    joined = {name: entry.people for name, entry in people.items() if entry.people}
    ((host, guests),) = joined.items()
    assert host in {"a", "b"}
    assert guests == {f"WDA_Guest/WDA_Guest_{number}": "WDA_Guest" for number in (0, 1)}
    assert len({people[host].split_of(clip_id) for clip_id in guests}) == 1
    capfd.readouterr()
    materialise(tmp_path, lrs3, f"root: {ready}")
    assert capfd.readouterr().err.count("unchanged, kept") == 3
    materialise(tmp_path, lrs3, f"root: {ready}", "preparation.mix.guest_share=0")
    assert capfd.readouterr().err.count("unchanged, kept") == 2
    assert {row.file for row in load_quarantine(run.quarantine)} == {
        "hdtf/WDA_Guest_0.mp4",
        "hdtf/WDA_Guest_1.mp4",
    }
    # Cut guests take the place of ready ones, in the same run.
    materialise(tmp_path, lrs3, f"root: {videos}, tables: {videos}")
    assert "RD_Radio1/RD_Radio1_0" in {clip for entry in load_people(run).values() for clip in entry.people}
    assert sorted(path.name for path in run.corpus.iterdir()) == ["hdtf", "lrs3", "mix.json"]
    assert ("RD_Radio1_1", "cuts") in {(row.file, row.step) for row in load_quarantine(run.quarantine)}
    materialise(tmp_path, lrs3, f"root: {ready}")
    assert load_people(run) == people
    assert before == {path: path.stat().st_mtime_ns for part in parts for path in part.rglob("*")}


def test_a_choice_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(PrivFedTalkError, match=r"corpus\.parts are a mix's"):
        load("small", ["corpus.kind=folder", "corpus.root=x", "corpus.parts=[{kind: lrs3, root: x}]"])
    with pytest.raises(PrivFedTalkError, match="tables are HDTF's"):
        load("small", ["corpus.kind=mix", "corpus.parts=[{kind: lrs3, root: x, tables: y}, {kind: hdtf, root: z}]"])
