from __future__ import annotations

from pathlib import Path

import pytest

from preparation.clients.roles import assign_clients
from preparation.corpora.clip import Clip
from preparation.corpora.hdtf.names import Cut, cut_of
from preparation.corpora.hdtf.ready import find
from preparation.corpora.hdtf.tables import read_tables
from preparation.corpora.sources import source_of
from preparation.settings import ClientSettings, CorpusSettings, HdtfSpeaker


@pytest.mark.parametrize(
    ("stem", "video", "number"),
    [
        ("WDA_KatieHill_000", "WDA_KatieHill", "000"),
        ("hdtf_WDA_KatieHill_000", "WDA_KatieHill", "000"),
        ("RD_Radio11_0", "RD_Radio11", "0"),
        ("WDA_LucilleRoybal-Allard_0", "WDA_LucilleRoybal-Allard", "0"),
        ("Radio11_1", "Radio11", "1"),
    ],
)
def test_names_tell_video_and_cut(stem: str, video: str, number: str) -> None:
    assert cut_of(stem) == Cut(video, number)


@pytest.mark.parametrize("stem", ["retalking_face_1", "holiday", "2024_05_01", "WDA_KatieHill"])
def test_other_names_say_nothing(stem: str) -> None:
    assert cut_of(stem) is None


def test_every_published_name_is_understood(fixtures_dir: Path) -> None:
    for clip in read_tables(fixtures_dir / "hdtf_meta").clips:
        assert cut_of(clip.name) == Cut(f"{clip.group}_{clip.video}", str(clip.number))


def test_a_person_is_a_politician_or_a_programme() -> None:
    assert Cut("WRA_AdamKinzinger2", "0").person == "WRA_AdamKinzinger"
    assert Cut("RD_Radio11", "0").person == "RD_Radio11"
    assert Cut("WDA_KatieHill", "0").person == "WDA_KatieHill"


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def row(speaker: str, name: str, path: str) -> Clip:
    return Clip(
        clip_id=f"{speaker}/{name}", speaker=speaker, path=path, corpus="hdtf", subset="", frames=50, fps=25.0,
        width=512, height=512, seconds=2.0, audio_rate_hz=16000, bytes=1, sha256=path, sidecar=None, truth=None,
    )  # fmt: skip


def test_flat_and_nested_folders_mean_the_same(tmp_path: Path) -> None:
    touch(tmp_path / "flat", "WRA_JonKyl0_0.mp4", "WRA_JonKyl0_1.mp4", "WRA_JonKyl1_0.mp4", "Anna smiles.mov")
    touch(tmp_path / "deep", "WRA/WRA_JonKyl0_0.mp4", "WRA_JonKyl0/1.mp4", "x/WRA_JonKyl1_0.mp4", "Anna smiles.mov")
    for layout in ("flat", "deep"):
        found = {(clip.speaker, clip.name) for clip in find(tmp_path / layout, CorpusSettings())}
        jon = {"WRA_JonKyl0_0", "WRA_JonKyl0_1", "WRA_JonKyl1_0"}
        assert {name for speaker, name in found if speaker == "WRA_JonKyl"} == jon
        assert len(found) == 4
    by_video = find(tmp_path / "flat", CorpusSettings(hdtf_speaker=HdtfSpeaker.VIDEO))
    assert {clip.speaker for clip in by_video} >= {"WRA_JonKyl0", "WRA_JonKyl1"}


def test_cuts_of_one_video_are_never_parted(tmp_path: Path) -> None:
    videos = [f"WDA_Anna{video}" for video in range(6)]
    touch(tmp_path, *(f"{video}_{cut}.mp4" for video in videos for cut in range(3)))
    touch(tmp_path, *(f"copies/{video}_0.mp4" for video in videos))
    clips = [row(clip.speaker, clip.name, clip.path) for clip in find(tmp_path, CorpusSettings())]
    assert len({clip.clip_id for clip in clips}) == 24
    (client,) = assign_clients(clips, ClientSettings(public_speaker_fraction=0)).values()
    sides: dict[str, set[str]] = {}
    for clip in clips:
        sides.setdefault(Path(clip.path).stem.rpartition("_")[0], set()).add(client.split_of(clip.clip_id))
    assert len(sides) == 6
    assert all(len(side) == 1 for side in sides.values())
    assert set.union(*sides.values()) == {"train", "validation", "test"}
    assert len({source_of(clip) for clip in clips}) == 6


def test_real_clips(clips_dir: Path) -> None:
    found = {clip.path: clip for clip in find(clips_dir, CorpusSettings())}
    assert found["hdtf_WDA_KatieHill_000.mp4"].speaker == "WDA_KatieHill"
    assert found["retalking_face_1.mp4"].speaker == "retalking_face_1"
    assert found["grid/bbaf2n.mpg"].speaker == "grid"
