"""Cutting, on a video whose pictures tell their own number, with a row of the published tables."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import CorruptFileError, PrivFedTalkError
from preparation.corpora.hdtf.cut import Sources, box_in, cut_clip, cut_corpus
from preparation.corpora.hdtf.tables import Annotation
from preparation.corpora.manifest import scan
from preparation.media.rates import AUDIO_RATE_HZ
from preparation.media.sound import open_sound
from preparation.media.video import open_video
from preparation.media.writing import encode
from preparation.settings import CorpusSettings, CutSettings

JOE = Annotation("WRA", "JoeHeck1", 0, 10.0, 20.0, (405, 0, 516, 516), 720, "llDZm_wOJdQ")
HEIGHT, WIDTH = 360, 640  # half the annotated size: the square is 258 pixels at (202, 0)
EXACT = CutSettings(size=258)  # nothing is resized, so that a pixel too many or too few shows


def pictures(count: int, first: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Black, but the annotated square tells the frame's number by its grey."""
    for number in range(first, first + count):
        picture = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
        picture[0:258, 202:460] = grey(number)
        yield picture


def grey(number: NDArray[np.int64] | int) -> NDArray[np.int64]:
    return 60 + 7 * (np.asarray(number) % 27)


def ticks(seconds: float) -> NDArray[np.int16]:
    """Silence with a short tone at each full second, the louder the later."""
    time = np.arange(round(seconds * AUDIO_RATE_HZ)) / AUDIO_RATE_HZ
    tone = np.sin(2 * np.pi * 400 * time) * (time % 1 < 0.1) * (1000 + 1000 * np.floor(time))
    return tone.astype(np.int16)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "WRA_JoeHeck1.mp4"
    encode(pictures(525), ticks(21), path, crf=8)
    return path


@pytest.mark.slow(minutes=0.1)
def test_times_are_right_to_the_frame_and_the_square_to_the_pixel(source: Path, tmp_path: Path) -> None:
    cut_clip(JOE, source, tmp_path / "cut.mp4", EXACT)
    frames = open_video(tmp_path / "cut.mp4").all()
    assert frames.shape == (250, 258, 258, 3)
    assert np.abs(frames.mean(axis=(1, 2, 3)) - grey(np.arange(250, 500))).max() < 3
    for edge in (frames[:, 0], frames[:, -1], frames[:, :, 0], frames[:, :, -1]):
        assert np.abs(edge.mean(axis=(1, 2)) - grey(np.arange(250, 500))).max() < 6


def test_sound_stays_with_the_pictures(source: Path, tmp_path: Path) -> None:
    cut_clip(JOE, source, tmp_path / "cut.mp4", EXACT)
    sound = open_sound(tmp_path / "cut.mp4").in_step().astype(float)[: 10 * AUDIO_RATE_HZ]
    assert open_video(tmp_path / "cut.mp4").facts.audio_rate_hz == AUDIO_RATE_HZ
    expected = ticks(21)[10 * AUDIO_RATE_HZ : 20 * AUDIO_RATE_HZ].astype(float)
    lags = {lag: np.dot(np.roll(sound, -lag), expected) for lag in range(-800, 801, 4)}
    likeliest = max(lags, key=lags.__getitem__)
    assert abs(likeliest) < AUDIO_RATE_HZ / 25 / 2
    loudness = np.abs(sound).reshape(10, -1).max(axis=1)
    np.testing.assert_allclose(loudness, 1000 + 1000 * np.arange(10, 20), rtol=0.1)


@pytest.mark.parametrize("fps", [24, 30, 50])
def test_any_rate_becomes_25_by_the_nearest_frame(tmp_path: Path, fps: int) -> None:
    path = tmp_path / "video.mp4"
    encode(pictures(5 * fps), None, path, crf=8, fps=fps)
    shown = np.array([frame[:258, 202:460].mean() for frame in open_video(path).span(2.0, 4.0)])
    wanted = grey(np.floor((2 + np.arange(50) / 25) * fps + 0.5).astype(int))
    assert len(shown) == 50
    # Where two source frames are equally near, either is right.
    assert np.mean(np.abs(shown - wanted) < 3) >= (1.0 if fps == 24 else 0.5)
    earlier = grey(np.ceil((2 + np.arange(50) / 25) * fps - 0.5).astype(int))
    assert np.minimum(np.abs(shown - wanted), np.abs(shown - earlier)).max() < 3


def test_a_square_is_scaled_from_the_listed_height() -> None:
    assert box_in(JOE, 1280, 720) == (405, 0, 921, 516)
    assert box_in(JOE, 1920, 1080) == (608, 0, 1382, 774)
    assert box_in(replace(JOE, height=700), 1920, 1050) == (608, 0, 1382, 774)
    unknown = replace(JOE, height=0)
    assert box_in(unknown, 1280, 720) == box_in(unknown, 1920, 1080) == (405, 0, 921, 516)
    # As in WDA_MaggieHassan: 776 pixels are not of a picture 720 high.
    maggie = replace(JOE, box=(389, 0, 776, 776))
    assert box_in(maggie, 1920, 1080) == (389, 0, 1165, 776)
    with pytest.raises(CorruptFileError, match=r"beyond the video's 1280 x 720"):
        box_in(maggie, 1280, 720)


def interlaced(path: Path) -> Path:
    """Two seconds of a bar whose second field is half a frame later."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"flags": "+ilme+ildct"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 128, 128, "yuv420p", 4_000_000
        for number in range(50):
            picture = np.zeros((128, 128, 3), dtype=np.uint8)
            for field in (0, 1):
                left = 8 * (number % 12) + 4 * field
                picture[field::2, left : left + 24] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_an_interlaced_video_loses_its_combs(tmp_path: Path) -> None:
    path = interlaced(tmp_path / "interlaced.mpg")

    def combs(frames: Iterable[np.ndarray]) -> float:
        return float(np.mean([np.abs(np.diff(frame[..., 0].astype(float), axis=0)).mean() for frame in frames]))

    with av.open(str(path)) as container:
        raw = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    frames = list(open_video(path).span(0.4, 1.6))
    assert len(frames) == 30
    assert combs(frames) < 0.5 * combs(raw[10:40])


def test_what_was_converted_when_a_clip_was_cut_stands_in_the_manifest(tables: Path, tmp_path: Path) -> None:
    videos, into = tmp_path / "videos", tmp_path / "corpus"
    videos.mkdir()
    interlaced(videos / "JoeHeck1.mpg")
    for name, row in (("annotion_time", "JoeHeck1.mp4 00:00-00:01"), ("crop_wh", "JoeHeck1_0.mp4 0 128 0 128")):
        (tables / f"WRA_{name}.txt").write_text(f"{row}\n")
    (tables / "WRA_resolution.txt").write_text("JoeHeck1.mp4 128\n")
    assert cut_corpus(tables, videos, into, CorpusSettings(cuts=CutSettings(size=64))).made == 1
    (clip,) = scan("hdtf", into).clips
    assert clip.conversions.made() == {"deinterlaced": True}


@pytest.mark.parametrize(
    "name",
    ["WRA_JoeHeck1.mp4", "wra_joeheck1.MKV", "WRA/JoeHeck1.webm", "JoeHeck1.mp4", "llDZm_wOJdQ.mp4",
     "Weekly Address [llDZm_wOJdQ].mkv", "Weekly Address-llDZm_wOJdQ.mp4"],
)  # fmt: skip
def test_names_that_downloaders_give(tmp_path: Path, name: str) -> None:
    (tmp_path / "WRA").mkdir()
    (tmp_path / "JoeHeck2.mp4").touch()
    (tmp_path / "another one [9NunvBHkGdE].mkv").touch()
    (tmp_path / name).touch()
    assert Sources(tmp_path, CorpusSettings()).of(JOE) == tmp_path / name


@pytest.fixture
def tables(fixtures_dir: Path, tmp_path: Path) -> Path:
    """The rows of five real videos, as published."""
    folder = tmp_path / "tables"
    folder.mkdir()
    for path in (fixtures_dir / "hdtf_meta").glob("WRA_*.txt"):
        names = ("JoeHeck1", "GeoffDavis", "CandiceMiller", "JonKyl.", "JonKyl_", "JonKyl ", "KevinMcCarthy1")
        kept = [line for line in path.read_text().splitlines() if line.startswith(names)]
        (folder / path.name).write_text("\n".join(kept) + "\n")
    return folder


def test_every_annotated_clip_is_a_file_or_a_row_and_cuts_are_kept(source: Path, tables: Path, tmp_path: Path) -> None:
    videos, into = tmp_path / "videos", tmp_path / "corpus"
    videos.mkdir()
    shutil.copy(source, videos)
    (videos / "GeoffDavis.mp4").write_bytes(source.read_bytes()[:50_000])
    encode(pictures(250), None, videos / "JonKyl.mp4")  # ends after 10 of 30 seconds
    settings = CorpusSettings(cuts=CutSettings(size=64))
    first = cut_corpus(tables, videos, into, settings)
    assert (first.made, first.kept) == (1, 0)
    reasons = {row.file: row.reason for row in first.rows}
    assert "cannot be decoded" in reasons["WRA_GeoffDavis_0"] or "truncated" in reasons["WRA_GeoffDavis_0"]
    assert "ends at 10.0 s" in reasons["WRA_JonKyl_0"]
    assert reasons["WRA_CandiceMiller_0"] == "WRA_crop_wh.txt has no row for this clip"
    assert reasons["WRA_KevinMcCarthy1_1"] == "its source video is not in the folder"
    (remedy,) = (row.remedy for row in first.rows if row.file == "WRA_KevinMcCarthy1_1")
    assert remedy.startswith("download it as WRA_KevinMcCarthy1.mp4 (id ")
    (clip,) = scan("hdtf", into).clips
    assert (clip.clip_id, clip.frames, clip.width, clip.fps) == ("WRA_JoeHeck/WRA_JoeHeck1_0", 250, 64, 25)

    before = (into / "WRA_JoeHeck1_0.mp4").stat()
    again = cut_corpus(tables, videos, into, settings)
    assert (again.made, again.kept, again.rows) == (0, 1, first.rows)
    assert (into / "WRA_JoeHeck1_0.mp4").stat().st_mtime_ns == before.st_mtime_ns
    table = tables / "WRA_crop_wh.txt"
    table.write_text(table.read_text().replace("JoeHeck1_0.mp4 405", "JoeHeck1_0.mp4 403"))
    assert cut_corpus(tables, videos, into, settings).made == 1
    (tables / "WRA_annotion_time.txt").write_text("GeoffDavis.mp4 00:10-00:20\n")
    cut_corpus(tables, videos, into, settings)
    assert sorted(into.rglob("*.*")) == [into / ".cuts"]


@pytest.mark.slow(minutes=0.1)
def test_two_processes_cut_what_one_does(source: Path, tables: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("JoeHeck1", "GeoffDavis"):
        shutil.copy(source, videos / f"{name}.mp4")
    settings = CorpusSettings(cuts=CutSettings(size=64))
    alone = cut_corpus(tables, videos, tmp_path / "one", settings)
    together = cut_corpus(tables, videos, tmp_path / "two", settings, workers=2)
    assert (alone.made, together.made) == (2, 2)
    for path in (tmp_path / "one").glob("*.mp4"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_folder_of_somebody_s_files_is_left_alone(source: Path, tables: Path, tmp_path: Path) -> None:
    into = tmp_path / "mine"
    into.mkdir()
    (into / "holiday.mp4").touch()
    with pytest.raises(PrivFedTalkError, match="files that were not cut"):
        cut_corpus(tables, source.parent, into)
    assert (into / "holiday.mp4").exists()


def test_a_real_clip_as_source(clips_dir: Path, tmp_path: Path) -> None:
    real = clips_dir / "hdtf_WDA_KatieHill_000.mp4"
    clip = replace(JOE, start_seconds=2.0, end_seconds=4.0, box=(128, 64, 256, 256), height=512)
    cut_clip(clip, real, tmp_path / "cut.mp4", CutSettings(size=256, crf=8))
    made, wanted = open_video(tmp_path / "cut.mp4").all(), open_video(real).all()[50:100, 64:320, 128:384]
    assert made.shape == wanted.shape
    errors = [np.mean((made.astype(float) - np.roll(wanted, shift, axis=0)) ** 2) for shift in (-1, 0, 1)]
    assert int(np.argmin(errors)) == 1
    assert 10 * np.log10(255**2 / errors[1]) > 36
