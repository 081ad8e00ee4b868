"""Fuzzing tries readers only where what it makes is what it says: ordinary inputs of every kind are made and read."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest

from preparation.media.picture import FORMATS as READ
from preparation.media.picture import open_picture
from preparation.media.sound import open_sound
from preparation.media.video import open_video
from tests.fuzz.bounded import result_of
from tests.fuzz.made_media import SOUND_CODECS, VIDEO_CODECS, Maker, Medium, Pictures, Sound
from tests.fuzz.made_pictures import FORMATS, MadePicture, make_picture
from tests.fuzz.test_text_readers import READERS

CLIPS = [(container, codec) for container, codecs in VIDEO_CODECS.items() for codec in codecs]
SOUNDS = [(container, codec) for container, codecs in SOUND_CODECS.items() for codec in codecs]
RATES = {"libopus": 48_000, "vorbis": 48_000, "pcm_dvd": 48_000, "libopencore_amrnb": 8_000}
"""Of codecs that do not take any."""


@pytest.fixture(scope="module")
def maker() -> Iterator[Maker]:
    maker = Maker()
    yield maker
    maker.close()


def write(maker: Maker, medium: Medium, path: Path) -> Path:
    whole = maker.make(medium)
    assert whole is not None, "FFmpeg does not write it"
    path.write_bytes(whole)
    return path


def clip(codec: str, side: int = 144) -> Pictures:
    return Pictures(codec, "yuv420p", 176, side, Fraction(25), 8, False, Fraction(1), (2, 2, 2, 0), gap=0)


@pytest.mark.parametrize(("container", "codec"), CLIPS)
def test_an_ordinary_clip_of_every_kind_is_made_and_read(
    maker: Maker, tmp_path: Path, container: str, codec: str
) -> None:
    video = open_video(write(maker, Medium(container, (clip(codec),), ()), tmp_path / "a"))
    assert len(list(video.frames())) == 8 and (video.facts.width, video.facts.height) == (176, 144)


@pytest.mark.parametrize(("container", "codec"), SOUNDS)
def test_ordinary_sound_of_every_kind_is_made_and_read(
    maker: Maker, tmp_path: Path, container: str, codec: str
) -> None:
    layout = "stereo" if codec == "vorbis" else "mono"
    made = Sound(codec, RATES.get(codec, 44_100), layout, 0.5, "tone", 0.0, 0.0)
    found = open_sound(write(maker, Medium(container, (), (made,)), tmp_path / "a")).samples()
    assert 7_000 < len(found) < 10_500 and 3_000 < abs(found).max() < 15_000


def test_what_is_joined_changes_on_the_way(maker: Maker, tmp_path: Path) -> None:
    other = Medium("mpegts", (clip("mpeg2video", side=96),), ())
    joined = Medium("mpegts", (clip("mpeg2video"),), (), then=other)
    video = open_video(write(maker, joined, tmp_path / "a.ts"))
    assert len(list(video.frames())) > 8 and video.conversions.resized


@pytest.mark.parametrize("kind", FORMATS)
def test_an_ordinary_picture_of_every_kind_is_made_and_those_that_are_read_are(tmp_path: Path, kind: str) -> None:
    whole = make_picture(MadePicture(kind, "RGB", 64, 48, "nothing", 0, (), ""))
    assert whole is not None
    (tmp_path / "a").write_bytes(whole)
    picture = result_of(lambda: open_picture(tmp_path / "a"))
    assert (picture is not None and picture.shape == (48, 64, 3)) is (kind in (*READ, "MPO"))


@pytest.mark.parametrize("name", READERS)
def test_the_texts_that_are_changed_are_right_ones(tmp_path: Path, name: str) -> None:
    reader, _, seeds = READERS[name]
    for number, seed in enumerate(seeds):
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / "people's.txt"
        path.write_text(seed, encoding="utf-8")
        assert result_of(partial(reader, path)), f"{name} {number} is refused"
