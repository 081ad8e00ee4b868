"""Folders and records that an interruption leaves whole, or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import CorruptFileError
from common.files import read_json_lines, remove_folder, replacing_folder, write_text


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "a" / "folder"
    for text in ("first", "second"):
        with replacing_folder(target) as partial:
            write_text(partial / text, text)
        assert [path.name for path in target.iterdir()] == [text]
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_a_body_that_ends_early_leaves_the_folder_of_before(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with replacing_folder(target) as partial:
        write_text(partial / "whole", "x")
    with pytest.raises(KeyboardInterrupt), replacing_folder(target) as partial:
        write_text(partial / "half", "x")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert [path.name for path in target.iterdir()] == ["whole"]


def test_a_folder_that_is_not_there_is_removed_too(tmp_path: Path) -> None:
    remove_folder(tmp_path / "nothing")
    (tmp_path / "some" / "in").mkdir(parents=True)
    remove_folder(tmp_path / "some")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [b'{"b": 2', b'{"b": "\xc3', b"[1", b""])
def test_a_last_line_that_was_cut_is_left_out(tmp_path: Path, cut: bytes) -> None:
    (tmp_path / "lines").write_bytes('{"a": "ä"}\n'.encode() + cut)
    assert read_json_lines(tmp_path / "lines") == [{"a": "ä"}]


def test_a_line_within_that_is_no_record_is_an_error(tmp_path: Path) -> None:
    for line in (b"{", b"[1]", b'{"a": "\xe4"}', b""):
        (tmp_path / "lines").write_bytes(b'{"a": 1}\n' + line + b'\n{"b": 2}\n')
        with pytest.raises(CorruptFileError, match=r"line 2 of .* cannot be read"):
            read_json_lines(tmp_path / "lines")


def test_a_folder_behind_a_link_is_replaced_where_it_lies(tmp_path: Path) -> None:
    """A run of the paper's tables is made of links: what it writes belongs where they lead."""
    target, link = tmp_path / "results" / "seed0", tmp_path / "run" / "backbone"
    target.mkdir(parents=True)
    (target / "old").write_text("old")
    link.parent.mkdir()
    link.symlink_to("../results/seed0")
    with replacing_folder(link) as partial:
        (partial / "new").write_text("new")
    assert link.is_symlink() and [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in link.parent.iterdir()] == ["backbone"]
    assert [path.name for path in target.parent.iterdir()] == ["seed0"]
