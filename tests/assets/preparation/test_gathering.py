"""What tells that a corpus has changed: all that clips are read from, and nothing that the run itself writes."""

from __future__ import annotations

import os
from pathlib import Path

from assets.preparation.gathering import lines_of, listing_of
from assets.stage.stages import digest


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(root: Path, without: Path | None = None) -> list[str]:
    return [path.relative_to(root).as_posix() for path in listing_of(root, without)]


def test_links_are_followed_at_any_depth_and_cycles_end(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "corpus", tmp_path / "disk"
    touch(root / "anna" / "one.mp4", elsewhere / "two.mp4", elsewhere / "deep" / "two.txt")
    (root / "anna" / "more").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "deep" / "back").symlink_to(root, target_is_directory=True)
    (root / "nowhere.mp4").symlink_to(root / "gone.mp4")
    assert names(root) == ["anna/more/deep/two.txt", "anna/more/two.mp4", "anna/one.mp4"]
    before = digest(lines_of(root))
    touch(elsewhere / "deep" / "three.mp4")
    assert digest(lines_of(root)) != before, "what is new behind a link is new"
    assert listing_of(tmp_path / "absent") == {}


def test_a_run_in_the_corpus_is_no_change_of_it(tmp_path: Path) -> None:
    touch(tmp_path / "anna" / "one.mp4")
    own, other = tmp_path / "data" / "own", tmp_path / "data" / "other"
    before = lines_of(tmp_path, own)
    touch(own / "configuration.yaml", own / "clients" / "anna" / "crops" / "one.mp4")
    touch(other / "manifest.parquet", other / "people.json", other / "clients" / "anna" / "crops" / "one.mp4")
    assert lines_of(tmp_path, own) == before
    assert names(own) == ["clients/anna/crops/one.mp4", "configuration.yaml"], "models of a run are looked for in it"


def test_names_of_any_bytes_have_a_digest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for name in (b"\xff\xfe.mp4", b"\xff.mp4", b"line\nbreak.mp4", b"n" * 255):
        touch(tmp_path / os.fsdecode(name))
    lines = lines_of(tmp_path)
    assert len(lines) == len(set(lines)) == 4
    assert digest(lines) and "\n".join(lines).encode()
