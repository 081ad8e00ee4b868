"""Names that are joined of parts: unequal parts never become one speaker, one clip or one sample."""

from __future__ import annotations

from itertools import product
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.text.names import own_spelling
from preparation.corpora.candidate import Candidate, distinct_names, safe_name, tell_apart
from preparation.corpora.folder import claim_of, find
from preparation.corpora.manifest import _names_beside
from preparation.settings import CorpusSettings, SpeakerRule
from preparation.shards.samples import sample_key

PARTS = st.text("ab-_. ", min_size=1, max_size=4).filter(lambda text: text.strip(".") != "")
PEOPLE = st.sampled_from(["a", "hdtf-a", "hdtf-hdtf-a", "A", "b", "hdtf-b"])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map(tuple)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_anna_maria_and_anna_maria_are_two(tmp_path: Path) -> None:
    touch(
        tmp_path, "anna-maria/one.mp4", "anna/maria/one.mp4", "anna/one.mp4", "s1/video/one.mpg", "b-c.mp4", "b/c/d.avi"
    )
    speakers = {clip.path: clip.speaker for clip in find(tmp_path, CorpusSettings())}
    assert len(set(speakers.values())) == 6
    assert (speakers["anna/one.mp4"], speakers["s1/video/one.mpg"]) == ("anna", "s1-video"), "the ordinary stays"
    # Neither keeps the name: what was recorded of one who had it must not pass to the other.
    assert "anna-maria" not in speakers.values() and "b-c" not in speakers.values()
    again = {clip.path: clip.speaker for clip in find(tmp_path, CorpusSettings())}
    assert again == speakers


@settings(max_examples=300)
@given(st.sets(PATHS, max_size=12))
def test_unequal_folders_are_unequal_speakers(folders: set[tuple[str, ...]]) -> None:
    names = distinct_names({folder: "-".join(folder) for folder in folders})
    assert len(set(names.values())) == len(folders)
    assert all(safe_name(name) == name for name in names.values())
    assert names == distinct_names({folder: "-".join(folder) for folder in sorted(folders, reverse=True)})
    joined = ["-".join(folder) for folder in folders]
    for folder, name in names.items():
        alone = [safe_name(text) for text in joined].count(safe_name("-".join(folder))) == 1
        assert not alone or name == safe_name("-".join(folder)), "ordinary names stay"


@settings(max_examples=300)
@given(st.sets(st.tuples(PARTS, PARTS), max_size=12), st.integers(0, 2))
def test_unequal_clips_are_unequal_samples(clips: set[tuple[str, str]], part: int) -> None:
    ids = {f"{safe_name(speaker)}/{safe_name(name)}" for speaker, name in clips}
    keys = [sample_key(clip_id, number) for clip_id, number in product(ids, (None, part))]
    assert len(set(keys)) == len(keys)
    assert all("." not in key and "/" not in key for key in keys)
    assert sample_key("anna/one") == "anna--one" and sample_key("-FOCp/00001") == "-FOCp--00001"


@settings(max_examples=200)
@given(st.sets(st.tuples(PARTS, PARTS, PARTS), max_size=12))
def test_clips_of_one_speaker_and_name_are_told_apart(files: set[tuple[str, str, str]]) -> None:
    clips = [Candidate("/".join(file), safe_name(file[1]), safe_name(file[2])) for file in sorted(files)]
    apart = tell_apart(clips)
    assert len({(each.speaker, each.name) for each in apart}) == len(files)
    assert [each.path for each in apart] == [each.path for each in clips]


@settings(max_examples=200)
@given(st.sets(PEOPLE), st.sets(PARTS.map(safe_name) | PEOPLE))
def test_people_of_two_parts_are_never_one(first: set[str], second: set[str]) -> None:
    names = _names_beside({name.casefold() for name in first}, "hdtf", sorted(second))
    assert len(set(names.values())) == len(second)
    assert not {name.casefold() for name in names.values()} & {name.casefold() for name in first}


def test_files_that_differ_in_their_ending_are_named_as_before(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "anna/a.mp4",
        "anna/a.mov",
        "anna/b.mp4",
        "anna/b.webm",
        "anna/b",
        "anna/c.webm",
        "anna/anna-a-mp4.avi",
    )
    found = {clip.path: f"{clip.speaker}/{clip.name}" for clip in tell_apart(find(tmp_path, CorpusSettings()))}
    assert len(set(found.values())) == 7
    assert found["anna/a.mov"] == "anna/anna-a-mov"
    assert (found["anna/b.mp4"], found["anna/c.webm"]) == ("anna/b", "anna/c")


@pytest.mark.parametrize("rule", list(SpeakerRule))
def test_every_rule_names_somebody(rule: SpeakerRule) -> None:
    for path in ("one.mp4", "a/one.mp4", "a/b/one"):
        assert all(claim_of(PurePosixPath(path), rule))


def test_composed_and_decomposed_letters_are_one_name() -> None:
    composed, apart = "bj\u00f6rn", "bjo\u0308rn"
    assert own_spelling(composed, ["anna", apart]) == apart and own_spelling(apart, [composed]) == composed
    assert own_spelling(composed, [apart, composed]) == composed and own_spelling("bjorn", [composed]) is None
