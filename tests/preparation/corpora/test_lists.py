from __future__ import annotations

import time
from pathlib import Path

import pytest

from common.errors import PrivFedTalkError
from preparation.corpora.candidate import Candidate
from preparation.corpora.lists import Listed, parse, read_lists, version_of
from preparation.corpora.manifest import scan
from preparation.quarantine import load_quarantine, save_quarantine
from preparation.settings import CorpusSettings


@pytest.mark.parametrize(("name", "count"), [("train", 46_387), ("valid", 5_631), ("test", 5_966)])
def test_published_lists_are_read_whole(fixtures_dir: Path, name: str, count: int) -> None:
    selection = read_lists([fixtures_dir / f"lrs3_meta/lrs3_{name}.txt"])
    assert len(selection.clips) == count
    assert selection.rows == []
    assert {listed.subset for listed in selection.clips} == {"pretrain"}


def test_a_table_with_a_path_names_what_its_list_does(fixtures_dir: Path) -> None:
    table = read_lists([fixtures_dir / "lrs3_meta/fixed_offsets_test_size21_crop5.csv"])
    assert set(table.clips) == set(read_lists([fixtures_dir / "lrs3_meta/lrs3_test.txt"]).clips)
    assert table.rows == []


def test_pairs_name_both_sides(fixtures_dir: Path) -> None:
    path = fixtures_dir / "lrs3_meta/wav2lip_eval_lrs3.txt"
    selection = read_lists([path])
    assert selection.rows == []
    assert {str(listed) for listed in selection.clips} == set(path.read_text().split())
    assert all(listed.subset == "" for listed in selection.clips)


@pytest.mark.parametrize(
    ("line", "clips"),
    [
        ("trainval/-abc_/00001", ["trainval/-abc_/00001"]),
        ("-abc_/00001.mp4", ["-abc_/00001"]),
        ("/data/lrs3/test/x/00002.txt", ["test/x/00002"]),
        ("./x/00002", ["x/00002"]),
        ("test/x/00002 0.25 label", ["test/x/00002"]),
        ("a/1 b/2", ["a/1", "b/2"]),
        (r"C:\lrs3\test\x\00002.txt", ["test/x/00002"]),
        (r"pretrain\x\00002", ["pretrain/x/00002"]),
        ("x/00002.webm", ["x/00002"]),
        ("00002", []),
        ("no clip here", []),
    ],
)
def test_lines(line: str, clips: list[str]) -> None:
    assert [str(listed) for listed in parse(line)] == clips


def test_lines_that_name_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\ufeff# chosen by hand\n\npretrain/a/00001\nand some more\n")
    selection = read_lists([path])
    assert list(selection.clips) == [Listed("pretrain", "a", "00001")]
    (row,) = selection.rows
    assert (row.file, row.reason) == ("mine.txt", "line 4 names no clip: 'and some more'")
    path.write_text("\nhello\n")
    with pytest.raises(PrivFedTalkError, match=r"mine.txt names no clip: line 2 is 'hello'"):
        read_lists([path])
    path.write_text("path,offset\n")
    with pytest.raises(PrivFedTalkError, match="it is empty"):
        read_lists([path])
    with pytest.raises(PrivFedTalkError, match="cannot be read"):
        read_lists([tmp_path / "absent.txt"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", ["", ",", ";", "\t"])
def test_lists_in_every_notation(tmp_path: Path, encoding: str, end: str, delimiter: str) -> None:
    path = tmp_path / "list.csv"
    lines = ["# größer", "pretrain/a/00001", "b\\00002", "nothing here"]
    if delimiter:
        lines = [delimiter.join(("id", "Path", "was")), *(delimiter.join(("1", line, '"a, b"')) for line in lines[1:])]
    path.write_text(end.join(lines), encoding=encoding, newline="")
    selection = read_lists([path])
    assert list(selection.clips) == [Listed("pretrain", "a", "00001"), Listed("", "b", "00002")]
    assert [row.reason for row in selection.rows] == ["line 4 names no clip: 'nothing here'"]


def test_a_list_that_is_none_is_a_plain_error(tmp_path: Path) -> None:
    binary = tmp_path / "clip.mp4"
    binary.write_bytes(b"\0\0\0\x18ftypmp42")
    for path, said in ((tmp_path, "is no file"), (binary, "NUL bytes"), (tmp_path / "gone", "cannot be read: No such")):
        for read in (lambda path: read_lists([path]), version_of):
            with pytest.raises(PrivFedTalkError, match=said) as raised:
                read(path)
            assert str(path) in raised.value.reason and raised.value.remedy


def test_only_listed_clips_are_read(studio_corpus: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "one.txt", tmp_path / "two.csv"
    first.write_text("trainval/c0000/00001\nc0001/00002.mp4 p0000/00001.mp4\ntrainval/c0000/00099\n")
    second.write_text("id,path\n1,test/u0000/00001\n2,pretrain/c0002/00001\n")
    found = scan("lrs3", studio_corpus, CorpusSettings(lists=(first, second)))
    assert [clip.clip_id for clip in found.clips] == ["p0000/00001", "c0000/00001", "c0001/00002", "u0000/00001"]
    assert {(row.file, row.reason) for row in found.quarantine} == {
        ("trainval/c0000/00099", "listed in one.txt, but not in the corpus"),
        ("pretrain/c0002/00001", "listed in two.csv, but not in the corpus"),
    }
    with pytest.raises(PrivFedTalkError, match="selects LRS3 clips"):
        scan("folder", studio_corpus, CorpusSettings(lists=(first,)))


def test_46387_absent_clips_are_rows_within_seconds(fixtures_dir: Path, tmp_path: Path) -> None:
    started = time.process_time()
    selection = read_lists([fixtures_dir / "lrs3_meta/lrs3_train.txt"])
    rows = selection.absent([Candidate("pretrain/-FOCpMAww28/00002.mp4", "-FOCpMAww28", "00002")])
    assert len(rows) == 46_386
    save_quarantine(rows, tmp_path / "quarantine.parquet")
    assert len(load_quarantine(tmp_path / "quarantine.parquet")) == 46_386
    assert time.process_time() - started < 10
