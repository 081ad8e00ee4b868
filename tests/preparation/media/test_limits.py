"""Files that describe more than they hold: each is refused by name, soon, and in little memory."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from common.errors import CorruptFileError, PrivFedTalkError
from preparation.corpora.hdtf.cut import cut_clip
from preparation.corpora.manifest import scan
from preparation.crops.portrait import read_speech
from preparation.media.limits import longest_gap
from preparation.media.picture import open_picture
from preparation.media.sound import open_sound
from preparation.media.video import open_video
from preparation.media.writing import encode
from preparation.settings import CorpusSettings, CutSettings, MediaSettings, PreparationSettings
from training.generation.marks.verify import verify

HOSTILE_SECONDS = 10.0
HOSTILE_BYTES = 400e6


@contextmanager
def bounded() -> Iterator[None]:
    """The body takes seconds and some hundred megabytes of Python's memory, numpy's among it."""
    tracemalloc.start()
    began = time.monotonic()
    try:
        yield
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.monotonic() - began < HOSTILE_SECONDS and peak < HOSTILE_BYTES


def write(
    path: Path, times_ms: list[int], size: tuple[int, int] = (64, 64), fps: int = 25, sound_at: float | None = None
) -> Path:
    """Grey frames of the size (height, width) at these times; a second of sound that begins at `sound_at`, seconds."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=fps)
        video.height, video.width = size
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = None if sound_at is None else container.add_stream("aac", rate=16_000, layout="mono")
        for number, milliseconds in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 8 * (number % 25), np.uint8), format="rgb24")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound_at is not None:
            block = av.AudioFrame.from_ndarray(np.full((1, 16_000), 4000, np.int16), format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = 16_000, round(16_000 * sound_at), Fraction(1, 16_000)
            container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def regular(count: int) -> list[int]:
    return [40 * number for number in range(count)]


READERS: dict[str, Callable[[Path], object]] = {
    "facts": lambda path: open_video(path).facts,
    "frames": lambda path: [0 for _ in open_video(path).frames()],
    "all": lambda path: open_video(path).all(),
    "pictures": lambda path: [0 for _ in open_video(path).pictures()],
    "parts": lambda path: [0 for _ in open_video(path).parts([None] * 300_000)],
    "verify": verify,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_gaps_between_timestamps_do_not_become_hours_of_frames(tmp_path: Path, reader: str, suffix: str) -> None:
    """300 frames, 29 s between each two: 217,000 frames at 25 a second of a file of 14 kB."""
    path = write(tmp_path / f"gaps.{suffix}", [29_000 * number for number in range(300)])
    assert path.stat().st_size < 60_000
    with bounded(), pytest.raises(CorruptFileError, match=r"gaps.*hole of 29 s") as caught:
        READERS[reader](path)
    assert "preparation.corpus.media.longest_gap_seconds" in caught.value.remedy


@pytest.mark.parametrize("reader", READERS)
def test_many_small_gaps_are_refused_for_their_sum(tmp_path: Path, reader: str) -> None:
    path = write(tmp_path / "slow.mp4", [4_900 * number for number in range(300)])
    with bounded(), pytest.raises(CorruptFileError, match=r"slow\.mp4 shows \d+ pictures in \d+ s") as caught:
        READERS[reader](path)
    assert "slowest_fps" in caught.value.remedy


def test_a_corpus_names_such_files_in_its_quarantine_and_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    root.mkdir()
    write(root / "good.mp4", regular(30))
    write(root / "gaps.mp4", [29_000 * number for number in range(300)])
    write(root / "long.mp4", regular(200))
    write(root / "wide.mp4", regular(5), (256, 256))
    limits = MediaSettings(frames=100, pixels_a_frame=100 * 100)
    with bounded():
        found = scan("folder", root, CorpusSettings(media=limits))
    assert [clip.name for clip in found.clips] == ["good"]
    reasons = {row.file: row.reason for row in found.quarantine}
    assert "more than 100 frames" in reasons["gaps.mp4"]
    assert "more than 100 frames" in reasons["long.mp4"] or "200 frames" in reasons["long.mp4"]
    assert "more than 10000 pixels" in reasons["wide.mp4"]
    assert all(row.remedy for row in found.quarantine)
    # What the settings raise is read.
    raised = CorpusSettings(media=MediaSettings(longest_gap_seconds=30, slowest_fps=0.01))
    assert len(scan("folder", root, raised).clips) == 4


def test_total_pixels_are_bounded_before_a_frame_is_decoded(tmp_path: Path) -> None:
    path = write(tmp_path / "large.mp4", regular(50), (512, 512))
    limits = MediaSettings(pixels=10 * 512 * 512)
    for read in (lambda: open_video(path, limits),):
        with pytest.raises(CorruptFileError, match="pixels in all its frames"):
            read()


def test_a_frame_larger_than_the_header_says_is_not_made_room_for(tmp_path: Path) -> None:
    """The container's size is changed to a small one; the frames keep theirs."""
    path = write(tmp_path / "lies.mp4", regular(5), (1024, 1024))
    content = path.read_bytes()
    header = content.index(b"mp4v", content.index(b"stsd"))
    lying = content[: header + 28] + struct.pack(">HH", 16, 16) + content[header + 32 :]
    path.write_bytes(lying)
    with pytest.raises(CorruptFileError):
        open_video(path, MediaSettings(pixels_a_frame=512 * 512)).all()


def test_a_header_with_an_absurd_rate_holds_no_frame_for_minutes(tmp_path: Path) -> None:
    """An AVI whose header says one frame in 10,000 s, or a million a second."""
    path = write(tmp_path / "rate.avi", regular(25))
    content = path.read_bytes()
    header = content.index(b"strh") + 8 + 20
    for scale, rate in ((10_000, 1), (1, 1_000_000)):
        path.write_bytes(content[:header] + struct.pack("<II", scale, rate) + content[header + 8 :])
        with bounded():
            try:
                assert len(open_video(path).all()) < 200
            except CorruptFileError as error:
                assert path.name in error.reason and error.remedy
            try:
                assert open_video(path).facts.seconds < 200
            except CorruptFileError as error:
                assert path.name in error.reason and error.remedy


def test_millions_of_empty_packets_are_counted_and_left(tmp_path: Path) -> None:
    """An AVI whose index and data name a million chunks without a byte."""
    path = write(tmp_path / "empty.avi", regular(5))
    content = path.read_bytes()
    movi = content.index(b"movi")
    (length,) = struct.unpack("<I", content[movi - 4 : movi])
    empty = b"00dc\0\0\0\0" * 1_000_000
    path.write_bytes(
        content[: movi - 4] + struct.pack("<I", length + len(empty)) + content[movi : movi + length] + empty
    )
    with bounded():
        try:
            assert open_video(path, MediaSettings(frames=1000)).facts.frames <= 1000
        except CorruptFileError as error:
            assert path.name in error.reason and error.remedy


def test_an_index_that_claims_a_billion_samples_takes_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "index.mp4", regular(25))
    content = bytearray(path.read_bytes())
    place = content.index(b"stsz")
    content[place + 8 : place + 16] = struct.pack(">II", 1, 400_000_000)
    chunks = content.index(b"stsc")
    content[chunks + 16 : chunks + 20] = struct.pack(">I", 400_000_000)
    path.write_bytes(content)
    script = (
        "import re, sys; from pathlib import Path; from preparation.media.video import open_video\n"
        "from common.errors import PrivFedTalkError\n"
        "try: open_video(Path(sys.argv[1]))\n"
        "except PrivFedTalkError as error: print(error.reason)\n"
        # The peak of this program alone: getrusage's counts what the process held before it, the tests' own.
        "print(int(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60)
    *said, megabytes = done.stdout.splitlines()
    assert said and "index.mp4" in said[0] and int(megabytes) < 1000, done.stdout + done.stderr


def test_sound_that_begins_hours_after_the_pictures_is_not_led_in_by_silence(tmp_path: Path) -> None:
    path = write(tmp_path / "late.mkv", regular(25), sound_at=400_000.0)
    with bounded(), pytest.raises(CorruptFileError, match=r"late\.mkv has sound beyond"):
        open_sound(path).in_step()
    with bounded():
        assert len(open_sound(path).span(0.0, 1.0)) == 16_000
    with bounded():
        assert len(open_sound(path).samples()) < 2 * 16_000


def wav(rate: int, samples: int) -> bytes:
    body = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate, 1, 8)
    body += struct.pack("<4sI", b"data", samples) + bytes(samples)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(body), b"WAVE") + body


def test_a_sample_rate_of_one_does_not_become_weeks_of_sound(tmp_path: Path) -> None:
    path = tmp_path / "slow.wav"
    path.write_bytes(wav(1, 2_000_000))
    with bounded(), pytest.raises(CorruptFileError, match=r"slow\.wav"):
        open_sound(path).samples()
    with bounded(), pytest.raises(PrivFedTalkError):
        read_speech(path, PreparationSettings())


def test_a_list_of_other_files_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "private.ts", regular(30))
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nprivate.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / "a.mp4").write_text(playlist)
    (tmp_path / "b.mp4").write_text("ffconcat version 1.0\nfile private.ts\n")
    for name in ("a.mp4", "b.mp4"):
        for read in (open_video, open_sound):
            with pytest.raises(CorruptFileError, match=name):
                read(tmp_path / name)


def bomb(width: int, height: int) -> bytes:
    """A PNG of one grey, rows compressed as they come: 30,000 x 30,000 are 900 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(30_000, 30_000), (12_000, 9_000), (9_000, 8_000)])
def test_a_picture_that_unpacks_to_gigabytes_is_refused_with_a_remedy(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(*size))
    assert path.stat().st_size < 2_000_000
    with bounded(), pytest.raises(CorruptFileError, match=r"bomb\.png has") as caught:
        open_picture(path)
    assert "smaller picture" in caught.value.remedy
    (tmp_path / "bomb.mp4").write_bytes(path.read_bytes())
    with bounded():
        assert len(scan("folder", tmp_path).quarantine) == 1


def test_a_picture_of_a_telephone_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (8000, 6000)).save(tmp_path / "photo.jpg")
    assert open_picture(tmp_path / "photo.jpg").shape == (6000, 8000, 3)


def test_no_format_that_starts_another_program_is_a_picture(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "EPS")
    (tmp_path / "face.eps").write_bytes(buffer.getvalue())
    with pytest.raises(PrivFedTalkError, match="no picture that can be read"):
        open_picture(tmp_path / "face.eps")


def test_source_videos_are_bounded_too(tmp_path: Path) -> None:
    from preparation.corpora.hdtf.tables import Annotation

    path = write(tmp_path / "source.mp4", [29_000 * number for number in range(300)])
    clip = Annotation.__new__(Annotation)
    object.__setattr__(clip, "start_seconds", 0.0)
    object.__setattr__(clip, "end_seconds", 8_000.0)
    with bounded(), pytest.raises(CorruptFileError, match="hole"):
        cut_clip(clip, path, tmp_path / "cut.mp4", CutSettings())
    with bounded(), pytest.raises(CorruptFileError, match="hole"):
        list(open_video(path).span(0.0, 8_000.0))


def test_the_defaults_let_hours_of_a_talk_pass() -> None:
    limits = MediaSettings()
    for seconds, fps, pixels in ((3600, 60, 1920 * 1080), (3 * 3600, 25, 1920 * 1080), (3600, 30, 1920 * 1080)):
        assert seconds * fps <= limits.frames and seconds <= limits.longest_seconds
        assert seconds * max(fps, 25) * pixels <= limits.pixels
    assert limits.pixels_a_frame >= 7680 * 4320


def test_real_clips_are_within_the_defaults(clips_dir: Path) -> None:
    for path in sorted(clips_dir.rglob("*.mp4")) + sorted(clips_dir.rglob("*.mpg")):
        assert open_video(path).facts.frames > 0


def test_the_longest_gap_of_any_order() -> None:
    assert longest_gap([0, 40, 120, 80], Fraction(1, 1000)) == 0.04
    assert longest_gap([], Fraction(1, 1000)) == 0.0 and longest_gap([7], Fraction(1, 1000)) == 0.0


def test_a_still_of_some_seconds_passes(tmp_path: Path) -> None:
    path = write(tmp_path / "still.mkv", [*regular(50), *(t + 6000 for t in regular(50))])
    assert abs(len(open_video(path).all()) - 8 * 25) <= 2
    encode(open_video(path).all(), None, tmp_path / "again.mp4")
