"""The page holds what the run found, asks nobody for anything, and stays small."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from common.folders import RunFolder
from evaluation.figures.charts import contact_sheet, curves
from evaluation.report import Chart, ReportData, Sheet, VideoCard, page, words, write_report
from evaluation.report.counts import counted, headcount, nameless
from evaluation.report.gather import words_of
from evaluation.report.inversion_card import face_strips
from evaluation.results.document import assemble
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import save_manifest
from preparation.media.writing import encode
from preparation.quarantine import QuarantineRow
from tests.evaluation.made_up_run import make_facts, make_table
from tests.preparation.media.test_previews import with_broken_pictures

VOID = {"meta", "link", "img", "br", "path", "use", "rect"}


@pytest.fixture(scope="module")
def results() -> dict:
    return assemble(make_table(), make_facts())


@pytest.fixture(scope="module")
def data(results: dict, tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    frames = np.random.default_rng(0).integers(0, 255, (10, 32, 32, 3), dtype=np.uint8)
    clip = tmp_path_factory.mktemp("videos") / "one.mp4"
    encode(frames, np.zeros(6400, np.int16), clip)
    return ReportData(
        results=results,
        videos=[VideoCard("Client c0000", "truth and <methods>", clip)],
        sheets=[Sheet("Client c0000", "a caption", contact_sheet([("truth", frames)], tile=32))],
        charts=[Chart("Validation loss", "by round", curves({"fedavg": [(0, 1), (1, 0.5)]}, "round", "loss"))],
        clients=[
            {"role": "public", "train": 3},
            {"role": "client", "train": 4},
        ],
        quarantine=counted(QuarantineRow(f"ann/{n}.mp4", "faces", f"no face in {n}.mp4", "show it") for n in "xy"),
        configuration={"seed": 3},
        title="A made-up run",
        seeded_noise=True,
    )


class Reader(HTMLParser):
    """Collects addresses, visible text and whether tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "poster", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_the_page_is_whole_and_asks_nobody(data: ReportData, tmp_path: Path) -> None:
    path = write_report(tmp_path / "report", data)
    reader = read(path)
    assert path.name == "index.html" and path.stat().st_size < page.PAGE_BYTES
    assert all(address.startswith(("data:", "#")) for address in reader.addresses)
    assert {address[:14] for address in reader.addresses} >= {"data:video/mp4", "data:image/jpe"}
    text = path.read_text(encoding="utf-8")
    assert "<script" not in text and not re.search(r"@import|url\(\s*['\"]?http", text)
    anchors = {address[1:] for address in reader.addresses if address.startswith("#")}
    assert all(f'id="{anchor}"' in text for anchor in anchors)


def test_a_video_that_cannot_be_read_does_not_end_the_page(data: ReportData, tmp_path: Path) -> None:
    broken = with_broken_pictures(Path(shutil.copy(data.videos[0].path, tmp_path / "broken.mp4")))
    odd = [VideoCard("Client 2", "gone", tmp_path / "absent.mp4"), VideoCard("Client 3", "broken", broken)]
    path = write_report(tmp_path / "report", replace(data, videos=[*odd, *data.videos]))
    assert sum(address.startswith("data:video/mp4") for address in read(path).addresses) == 1
    assert "too large to send" not in path.read_text(encoding="utf-8")


def test_words_that_cannot_be_read_do_not_end_the_page(tmp_path: Path) -> None:
    clip = Clip(
        clip_id="a/1", speaker="a", path="a/1.mp4", corpus="lrs3", subset="", frames=50, fps=25.0, width=64, height=64,
        seconds=2.0, audio_rate_hz=16000, bytes=1, sha256="0" * 64, sidecar="1.txt", truth=None,
    )  # fmt: skip
    run = RunFolder(tmp_path)
    save_manifest([clip, replace(clip, clip_id="a/2", path="a/2.mp4", sidecar="2.txt")], run.manifest)
    (tmp_path / "1.txt").write_bytes(bytes(range(256)))
    (tmp_path / "2.txt").write_text("Text:  A RED BOAT\n\nWORD START END ASDSCORE\nA x y z\n")
    assert words_of(run, tmp_path) == {"a/2": "A RED BOAT"}


def test_faces_of_an_attack_that_cannot_be_read_are_grey(tmp_path: Path) -> None:
    assert len(face_strips(tmp_path / "absent.png", 11)) == 11
    (tmp_path / "faces.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert len(set(face_strips(tmp_path / "faces.png", 11))) == 1


def test_the_page_says_what_the_run_found(data: ReportData, tmp_path: Path) -> None:
    text = " ".join(" ".join(read(write_report(tmp_path, data)).text).split())
    for expected in (
        "A made-up run",
        "Frozen backbone",
        "24.96",  # mouth PSNR of PrivFedTalk
        "The noise of this run was seeded",
        "ε = 30",
        "no face",
        "truth and <methods>",
        "Face tracker: truth",
        "2 files did not become samples",
        "Counts only",
    ):
        assert expected in text, expected


def test_the_page_counts_people_as_one_speaks(data: ReportData, tmp_path: Path) -> None:
    alone = " ".join(" ".join(read(write_report(tmp_path / "alone", data)).text).split())
    assert "learned to speak from 1 public person. 1 client then taught" in alone
    assert "volunteer" not in alone and "took no part" not in alone
    more = replace(data, clients=[*data.clients, {"role": "volunteer"}, *[{"role": "unseen"}] * 2])
    text = " ".join(" ".join(read(write_report(tmp_path / "more", more)).text).split())
    assert "1 volunteer like them chose the round that is kept" in text
    assert "2 strangers who took no part say whether it helps others" in text
    assert "5 people: 1 public, 1 client, 1 volunteer, 2 strangers" in text
    assert headcount(8, "client") == "8 clients"


def test_no_name_reaches_the_page(data: ReportData, tmp_path: Path) -> None:
    assert len(data.quarantine) == 1 and data.quarantine[0]["files"] == 2
    text = " ".join(read(write_report(tmp_path, data)).text)
    assert "ann" not in text.split() and "x.mp4" not in text
    assert nameless("ann lee.mp4 ends at 2.0 s", "ann lee.mp4") == "… ends at 2.0 s"
    assert nameless("set preparation.clients.sizes=natural", "bob/1.mp4") == "set preparation.clients.sizes=natural"
    assert nameless("line 3 names no clip: 'ann'", "list.txt") == "line 3 names no clip: …"


def test_an_empty_run_still_makes_a_page(results: dict, tmp_path: Path) -> None:
    text = " ".join(read(write_report(tmp_path, ReportData(results))).text)
    assert "Empty: every clip" in text and "The noise of this run was seeded" not in text


def test_videos_beyond_the_budget_are_counted(
    data: ReportData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "PAGE_BYTES", 1_000_000)
    text = " ".join(read(write_report(tmp_path, data)).text)
    assert "1 more would have made this page too large" in text


def test_sentences_follow_from_the_tests(results: dict) -> None:
    first, *_, last = words.findings(results["comparisons"])
    assert first.startswith("PrivFedTalk against the frozen backbone: validation loss better by 0.004")
    assert "(better on 8 of 8 clients)" in first and "lip correlation worse by 0.01" in first
    assert last.startswith("PrivFedTalk against FedAvg")
    undecided = [one | {"p_holm": 0.5} for one in results["comparisons"]]
    assert words.findings(undecided)[0].endswith("no significant difference in any of 6 metrics.")


def test_a_method_without_a_guarantee_is_marked_where_its_figures_stand(data: ReportData, tmp_path: Path) -> None:
    methods = {name: dict(values) for name, values in data.results["methods"].items()}
    methods["privfedtalk"] |= {"private": False, "privacy": "NOT PRIVATE: a known seed."}
    methods["fedavg"] |= {"private": True, "privacy": "Private: ε = 1, δ = 1e-05"}
    marked = replace(data, results={**data.results, "methods": methods, "methods_unseen": {}})
    text = write_report(tmp_path, marked).read_text()
    assert text.count(">not private</span>") == 1 and 'title="NOT PRIVATE: a known seed."' in text


def test_epsilon_in_words() -> None:
    loud = " ".join(words.privacy_sentences({"epsilon_release": 30.0, "delta": 1e-3, "clients": 8}))
    assert "10^13" in loud and "With 8 clients" in loud
    quiet = " ".join(words.privacy_sentences({"epsilon_release": 1.0, "delta": 1e-5, "clients": 9000}))
    assert "factor of 2.7" in quiet and "weak" not in quiet
    broken = words.privacy_sentences({"epsilon_release": 7761.6, "delta": 0.1, "clients": 8, "guarantee_holds": False})
    assert broken[0].startswith("Not private") and "would satisfy" in broken[1] and "7,762" in broken[1]
    assert "no differential-privacy guarantee" in words.privacy_sentences({"epsilon_release": None})[0]


def test_sizes_and_times() -> None:
    assert [words.size(count) for count in (12, 197_000, 3_800_000)] == ["12 B", "197 kB", "3.8 MB"]
    assert [words.duration(seconds) for seconds in (8.4, 61)] == ["8 s", "1 min 01 s"]


def test_a_run_of_the_backbone_alone_has_a_page(data: ReportData, tmp_path: Path) -> None:
    alone = {**data.results, "privacy": {}, "communication": {}}
    text = write_report(tmp_path, replace(data, results=alone)).read_text()
    assert "No method is trained in this run" in text and "of the released adapter" not in text
