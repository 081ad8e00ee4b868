"""The published tables, as they are: every count is theirs."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from common.errors import PrivFedTalkError
from preparation.corpora.hdtf.tables import Tables, read_tables


@pytest.fixture(scope="module")
def published(fixtures_dir: Path) -> Tables:
    return read_tables(fixtures_dir / "hdtf_meta")


def test_436_annotated_clips_are_421_usable_and_15_rejects(published: Tables) -> None:
    assert (len(published.clips), len(published.rejects)) == (421, 15)
    assert Counter(clip.group for clip in published.clips) == {"RD": 64, "WDA": 189, "WRA": 168}
    assert len({clip.name for clip in published.clips}) == 421
    assert {row.file for row in published.rejects} == {
        "RD_Radio15_0", "RD_Radio6_0",
        "WDA_ByronDorgan0_0", "WDA_DeanPhillips_0", "WDA_JeffMerkley0_0", "WDA_JimMcGovern1_0", "WDA_JimMcGovern_0",
        "WDA_LindaSnchez_0",
        "WRA_BillCassidy_0", "WRA_CandiceMiller_0", "WRA_DuncanHunter_1", "WRA_JaimeHerreraBeutler_0",
        "WRA_KevinBrady0_0", "WRA_MittRomney_1", "WRA_RudyGiuliani_0",
    }  # fmt: skip
    for row in published.rejects:
        assert row.reason.endswith("crop_wh.txt has no row for this clip") and row.remedy


def test_a_row_is_read_column_by_column(published: Tables) -> None:
    (clip,) = (clip for clip in published.clips if clip.name == "RD_Radio11_1")
    assert (clip.start_seconds, clip.end_seconds) == (90, 150)
    assert clip.box == (557, 0, 478, 478)  # the table says 557 478 0 478: x, width, y, height
    assert clip.height == 720
    assert clip.video_id == "XtySvTwIOfw"
    assert all(len(clip.video_id) == 11 and clip.box[2] == clip.box[3] for clip in published.clips)


def test_every_oddity_of_the_tables_is_a_row(published: Tables) -> None:
    notes = {row.file: row.reason for row in published.notes}
    assert len(notes) == len(published.notes) == 9
    assert "byte order mark" in notes["WDA_video_url.txt"]
    assert "no row for this video" in notes["RD_Radio24"]
    for video, height in {
        "WDA_DanKildee": 360,
        "WDA_RaulRuiz": 700,
        "WRA_GregWalden": 714,
        "WRA_KevinMcCarthy1": 0,
    }.items():
        assert f"gives {height} as its height" in notes[video]
    for clip in ("WDA_MaggieHassan_0", "WDA_MazieHirono1_0", "WRA_PeterKing_0"):
        assert "beyond the listed height of 720" in notes[clip]
    assert all(row.remedy and row.step == "cuts" for row in published.notes)
    # The mark before the first row hides no video.
    assert any(clip.name == "WDA_CarolynMaloney2_0" and clip.video_id == "RApGxN-O9Qc" for clip in published.clips)


def write(folder: Path, **tables: str) -> Path:
    for name, text in tables.items():
        (folder / f"RD_{name}.txt").write_text(text)
    return folder


def test_broken_rows_are_rejects_with_a_reason(tmp_path: Path) -> None:
    write(
        tmp_path,
        annotion_time="A.mp4 00:10-00:20 00:40-00:30 half past\n\nB.mp4 1:00:00-1:00:05\nB.mp4 00:01-00:02\n",
        crop_wh="A_0.mp4 1 2 3\nA_1.mp4 0 10 0 10\nB_0.mp4 4 64 8 60\n",
        resolution="A.mp4 720\nB.mp4 high\n",
    )
    found = read_tables(tmp_path)
    (clip,) = found.clips
    assert (clip.name, clip.box, clip.height) == ("RD_B_0", (4, 8, 64, 60), 0)
    assert (clip.start_seconds, clip.end_seconds) == (3600, 3605)
    reasons = {row.file: row.reason for row in found.rejects}
    assert "'1 2 3'" in reasons["RD_A_0"]
    assert "00:40-00:30" in reasons["RD_A_1"]
    assert "'half' is not" in reasons["RD_A_2"]
    notes = [(row.file, row.reason) for row in found.notes]
    assert ("RD_annotion_time.txt", "line 4 names B once more") in notes
    assert ("RD_video_url.txt", "this table is missing") in notes
    assert ("RD_B", "RD_resolution.txt gives high as its height") in notes


def test_a_group_may_be_absent_but_not_all(fixtures_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(PrivFedTalkError, match="none of HDTF's tables"):
        read_tables(tmp_path)
    for path in (fixtures_dir / "hdtf_meta").glob("RD_*.txt"):
        shutil.copy(path, tmp_path)
    found = read_tables(tmp_path)
    assert (len(found.clips), len(found.rejects)) == (64, 2)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_in_every_notation(tmp_path: Path, encoding: str, end: str) -> None:
    tables = {"annotion_time": "Zo\u0308e.mp4 00:10-00:20\n", "crop_wh": "Z\u00f6e_0.mp4 1 20 3 40\n"}
    for name, text in tables.items():
        (tmp_path / f"RD_{name}.txt").write_text(text, encoding=encoding, newline=end)
    (clip,) = read_tables(tmp_path).clips
    assert (clip.name, clip.box) == ("RD_Z\u00f6e_0", (1, 3, 20, 40)), "two spellings of one name are one video"


@pytest.mark.parametrize("digits", ["\u00b2", "9" * 5000, "-1", "1e3", "nan", "0x10"])
def test_what_is_no_number_is_a_row(tmp_path: Path, digits: str) -> None:
    write(
        tmp_path,
        annotion_time=f"A.mp4 00:10-00:20 {digits}:10-{digits}:20\n",
        crop_wh=f"A_0.mp4 1 {digits} 3 4\nA_1.mp4 1 2 3 4\n",
        resolution=f"A.mp4 {digits}\n",
    )
    found = read_tables(tmp_path)
    assert found.clips == [] and [row.file for row in found.rejects] == ["RD_A_0", "RD_A_1"]


@pytest.mark.parametrize("name", ["../../../outside", "/tmp/outside", "..\\outside", "\x1b[2Jx", "long" * 60])
def test_a_video_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path, annotion_time=f"{name}.mp4 00:10-00:20\n", crop_wh=f"{name}_0.mp4 0 10 0 10\n")
    found = read_tables(tmp_path)
    assert found.clips == []
    (row,) = found.rejects
    assert row.file == "RD_annotion_time.txt" and "names no video" in row.reason and row.reason.isprintable()
