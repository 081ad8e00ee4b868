from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import CorruptFileError, PrivFedTalkError
from preparation.corpora.lrs3 import find, read_sidecar, spoken_text
from preparation.settings import CorpusSettings

OFFICIAL = """Text:  WE NEED TO TALK
Conf:  4
Ref:   00j9bKdiOjk

FRAME \tX \tY \tW \tH
000123 \t0.303 \t0.234 \t0.147 \t0.261
000124 \t0.304 \t0.234 \t0.147 \t0.262

WORD START END ASDSCORE
WE 0.12 0.28 3.2
NEED 0.28 0.51 4.0
"""


def test_official_sidecar(tmp_path: Path) -> None:
    path = tmp_path / "00001.txt"
    path.write_text(OFFICIAL)
    sidecar = read_sidecar(path)
    assert (sidecar.text, sidecar.confidence, sidecar.reference) == ("WE NEED TO TALK", 4, "00j9bKdiOjk")
    assert sidecar.frame_numbers.tolist() == [123, 124]
    np.testing.assert_allclose(sidecar.boxes[1], [0.304, 0.234, 0.147, 0.262], rtol=1e-6)
    assert [(word.text, word.start_seconds, word.score) for word in sidecar.words] == [
        ("WE", 0.12, 3.2),
        ("NEED", 0.28, 4.0),
    ]


def test_words_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "00001.txt"
    path.write_text(OFFICIAL.split("WORD")[0])
    assert read_sidecar(path).words == ()


def test_reencoded_variant_of_the_fixture(clips_dir: Path) -> None:
    sidecar = read_sidecar(clips_dir / "lrs3/pretrain/C8zY0oAdQrs/00018.txt")
    assert sidecar.reference == "C8zY0oAdQrs"
    assert sidecar.boxes.shape == (393, 4)
    assert sidecar.frame_numbers[[0, -1]].tolist() == [8454, 8846]
    assert sidecar.words == ()
    assert sidecar.text == ""


def test_malformed_row_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "00001.txt"
    path.write_text(OFFICIAL.replace("0.304", "left"))
    with pytest.raises(CorruptFileError, match="line 7"):
        read_sidecar(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (OFFICIAL.replace("0.304", "left").encode(), "WE NEED TO TALK"),
        (OFFICIAL.encode("utf-16"), "WE NEED TO TALK"),
        (OFFICIAL.replace("\n", "\r").encode(), "WE NEED TO TALK"),
        (OFFICIAL.replace("TALK", "gr\u00fc\u00dfen").encode("cp1252"), "WE NEED TO gr\ufffd\ufffden"),
        (OFFICIAL.replace("4\n", "\u0664\u00b2\n").encode(), "WE NEED TO TALK"),
        (OFFICIAL.encode("utf-16-le"), ""),
        (b"\0\1\2" * 100, ""),
        (b"", ""),
        (b"Text:", ""),
    ],
)
def test_the_text_of_any_sidecar_is_read_or_empty(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "00001.txt"
    path.write_bytes(content)
    assert spoken_text(path) == said
    try:
        assert read_sidecar(path).text == said
    except PrivFedTalkError as error:
        assert error.remedy


def test_an_absent_sidecar_says_nothing(tmp_path: Path) -> None:
    assert spoken_text(tmp_path / "absent.txt") == spoken_text(tmp_path) == ""


def test_layout_of_the_fixture(clips_dir: Path) -> None:
    (clip,) = find(clips_dir / "lrs3", CorpusSettings())
    assert (clip.speaker, clip.name, clip.subset) == ("C8zY0oAdQrs", "00018", "pretrain")
    assert clip.sidecar == "pretrain/C8zY0oAdQrs/00018.txt"
    assert clip.truth is None


def test_chosen_subsets_only(studio_corpus: Path) -> None:
    found = list(find(studio_corpus, CorpusSettings(subsets=("test",))))
    assert {clip.subset for clip in found} == {"test"}
    assert all(clip.truth == f"test/{clip.speaker}/{clip.name}.truth.safetensors" for clip in found)


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrivFedTalkError, match="none of the LRS3 subset folders"):
        list(find(tmp_path, CorpusSettings()))
