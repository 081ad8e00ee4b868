"""A rendered corpus on disk: layout, streams, sidecars, truth, determinism, going on after an interruption."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from safetensors.numpy import load_file

from common.errors import PrivFedTalkError
from common.files import MACHINE
from preparation.corpora.lrs3 import read_sidecar
from preparation.corpora.studio.clip import film, invite
from preparation.corpora.studio.corpus import render_corpus
from preparation.corpora.studio.settings import StudioSettings
from preparation.corpora.studio.sheet import choose_clips, contact_sheet

SMALL = StudioSettings(
    public_speakers=2, public_clips=1, clients=1, client_clips=2, unseen=1, unseen_clips=1, seconds=1.2, size=96
)
FRAMES = 30


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studio")
    summary = render_corpus(root, SMALL, workers=1)
    assert (summary.speakers, summary.clips, summary.rendered, summary.frames) == (4, 5, 5, 5 * FRAMES)
    return root


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_layout_is_that_of_lrs3(corpus: Path) -> None:
    names = {str(path.relative_to(corpus)) for path in corpus.glob("*/*/*.mp4")}
    assert names == {
        "pretrain/p0000/00001.mp4",
        "pretrain/p0001/00001.mp4",
        "trainval/c0000/00001.mp4",
        "trainval/c0000/00002.mp4",
        "test/u0000/00001.mp4",
    }
    for video in corpus.glob("*/*/*.mp4"):
        assert video.with_suffix(".txt").exists() and video.with_suffix(".truth.safetensors").exists()
    assert not [path for path in corpus.rglob(".*") if path.is_file()], "no temporary file stays behind"


def test_streams(corpus: Path) -> None:
    with av.open(str(corpus / "trainval/c0000/00001.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.average_rate, video.width, video.height) == ("h264", 25, 96, 96)
        assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 16_000, 1)
        assert sum(1 for _ in container.decode(video=0)) == FRAMES
    with av.open(str(corpus / "trainval/c0000/00001.mp4")) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert 0 <= samples - 1.2 * 16_000 < 4096


def test_sidecar_is_read_as_lrs3(corpus: Path) -> None:
    sidecar = read_sidecar(corpus / "trainval/c0000/00001.txt")
    assert sidecar.reference == "c0000" and sidecar.confidence is not None
    assert sidecar.boxes.shape == (FRAMES, 4)
    assert (sidecar.boxes > 0.0).all() and (sidecar.boxes[:, :2] + sidecar.boxes[:, 2:] <= 1.0015).all(), (
        "three decimals"
    )
    assert sidecar.text.split() == [word.text for word in sidecar.words]
    assert all(0.0 < word.start_seconds < word.end_seconds < 1.2 for word in sidecar.words)


def test_truth(corpus: Path) -> None:
    truth = load_file(corpus / "test/u0000/00001.truth.safetensors")
    shapes = {name: value.shape for name, value in truth.items()}
    assert shapes == {"landmarks": (FRAMES, 68, 2), "mouth_opening": (FRAMES,), "pose": (FRAMES, 3), "blink": (FRAMES,)}
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in truth.values())
    assert np.abs(truth["pose"]).max() < 15.0


def test_frames_and_sound_are_the_same_to_the_byte_in_any_order() -> None:
    def content(kind: str, clip: int) -> tuple[bytes, bytes]:
        filmed = film(invite(kind, 0, SMALL), clip, SMALL)
        frames = list(filmed.frames())
        return b"".join(frame.tobytes() for frame in frames[:8]), filmed.sound.tobytes()

    first = [content("client", 0), content("client", 1)]
    again = [content("client", 1), content("client", 0)]
    assert first == again[::-1]
    assert first[0] != first[1]


@pytest.mark.slow(minutes=0.2)
def test_worker_count_and_interruption_change_nothing(corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "again"
    render_corpus(root, SMALL, workers=2)
    expected = _files(corpus)
    assert _files(root) == expected
    # A killed run: one video missing, a half-written temporary file of another.
    (root / "trainval/c0000/00002.mp4").unlink()
    (root / "pretrain/p0001/00001.txt").unlink()
    left = root / f"trainval/c0000/.00002.mp4.{2**22 + 1}-{MACHINE}.partial"  # no process has so high a number
    left.write_bytes(b"half")
    kept = (root / "trainval/c0000/00001.mp4").stat().st_mtime_ns
    summary = render_corpus(root, SMALL, workers=1)
    assert summary.rendered == 2
    assert _files(root) == expected and not left.exists()
    assert (root / "trainval/c0000/00001.mp4").stat().st_mtime_ns == kept


def test_a_corpus_grows_but_is_not_mixed(corpus: Path, tmp_path: Path) -> None:
    one = SMALL.model_copy(update={"public_speakers": 1, "clients": 0, "unseen": 0})
    render_corpus(tmp_path, one, workers=1)
    assert render_corpus(tmp_path, one.model_copy(update={"public_speakers": 2}), workers=1).rendered == 1
    volunteered = one.model_copy(update={"public_speakers": 2, "volunteers": 1, "volunteer_clips": 1})
    assert render_corpus(tmp_path, volunteered, workers=1).rendered == 1
    assert (tmp_path / "volunteers" / "v0000" / "00001.mp4").exists()
    with pytest.raises(PrivFedTalkError, match="other settings"):
        render_corpus(tmp_path, one.model_copy(update={"seed": 1}), workers=1)


def test_contact_sheet(corpus: Path) -> None:
    clips = choose_clips(corpus, 3)
    sheet = contact_sheet(clips, columns=4, size=96, gap=2)
    assert sheet.dtype == np.uint8 and sheet.shape == (3 * 96 + 2 * 2, 4 * 96 + 3 * 2, 3)
    with pytest.raises(PrivFedTalkError, match="no speaker folders"):
        choose_clips(corpus / "trainval" / "c0000", 3)
