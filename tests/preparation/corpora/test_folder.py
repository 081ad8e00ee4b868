from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from preparation.corpora.candidate import safe_name
from preparation.corpora.folder import claim_of, find
from preparation.corpora.walking import walk
from preparation.settings import CorpusSettings, SpeakerRule


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("path", "rule", "speaker"),
    [
        ("bbaf2n.mpg", SpeakerRule.AUTO, "bbaf2n"),
        ("anna/one.mp4", SpeakerRule.AUTO, "anna"),
        ("s1/video/one.mpg", SpeakerRule.AUTO, "s1-video"),
        ("s1/video/one.mpg", SpeakerRule.PARENT, "video"),
        ("s1/video/one.mpg", SpeakerRule.TOP, "s1"),
        ("anna/one.mp4", SpeakerRule.STEM, "one"),
    ],
)
def test_who_speaks(path: str, rule: SpeakerRule, speaker: str) -> None:
    assert "-".join(claim_of(PurePosixPath(path), rule)) == speaker


def test_names_are_kept_apart(tmp_path: Path) -> None:
    touch(tmp_path, "anna/a.mp4", "anna/a.mov", "anna/b c.mp4", "anna/b_c.mp4", "björn/ü.MP4", "anna/notes.txt")
    found = list(find(tmp_path, CorpusSettings()))
    assert len(found) == 5
    assert len({(clip.speaker, clip.name) for clip in found}) == 5
    assert {clip.speaker for clip in found} == {"anna", "björn"}


def test_links_that_loop_end(tmp_path: Path) -> None:
    touch(tmp_path, "anna/a.mp4")
    (tmp_path / "anna" / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.mp4").symlink_to(tmp_path / "self.mp4")
    found = [path.relative_to(tmp_path).as_posix() for path in walk(tmp_path, (".mp4",))]
    assert found == ["self.mp4", "anna/a.mp4"]


@pytest.mark.parametrize("text", ["a b", "line\nbreak", "dots.in.name", "", "../up", 'quo"te'])
def test_safe_names_hold_nothing_dangerous(text: str) -> None:
    name = safe_name(text)
    assert name and not set(name) & set(" \n./\\\"'*?")
    assert safe_name(text) == name
    assert safe_name(text) != safe_name(text + "x")


def test_plain_names_stay() -> None:
    assert safe_name("-C8zY0oAdQrs_9") == "-C8zY0oAdQrs_9"
    assert safe_name("björn") == "björn"
