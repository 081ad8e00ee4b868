from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from PIL import Image, ImageCms

from common.errors import CorruptFileError
from preparation.media.track.display import Orientation, fitted, orientation, squared
from preparation.media.video import open_video
from preparation.settings import MediaSettings
from tests.preparation.media.made_clips import marked, with_aspect, write_clip

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(("degrees", "across", "down"), list(product((0, 90, 180, 270), (False, True), (False, True))))
def test_the_display_matrix_turns_and_mirrors(tmp_path: Path, degrees: int, across: bool, down: bool) -> None:
    """A counter-clockwise turn, then flips, as FFmpeg describes what it writes."""

    def prepare(stream: Any) -> None:
        stream.set_display_rotation(degrees, across, down)

    write_clip(tmp_path / "plain.mp4", marked(3))
    video = open_video(write_clip(tmp_path / "a.mp4", marked(3), prepare=prepare))
    wanted = np.rot90(open_video(tmp_path / "plain.mp4").all(), degrees // 90, axes=(1, 2))
    wanted = wanted[:, :, ::-1] if across else wanted
    wanted = wanted[:, ::-1] if down else wanted
    np.testing.assert_array_equal(video.all(), wanted)
    np.testing.assert_array_equal(np.asarray(next(video.pictures())), wanted[0])
    assert (video.facts.height, video.facts.width) == wanted.shape[1:3]
    assert video.conversions.mirrored == (across != down)
    assert video.conversions.turned == (degrees % 180 == 90 or (degrees == 180) != down)


@pytest.mark.parametrize(("asked", "turns", "mirrored"), [("rotate=90", 1, False), ("flip=horizontal", 0, True)])
def test_what_h264_says_itself_turns_and_mirrors(tmp_path: Path, asked: str, turns: int, mirrored: bool) -> None:
    """A display orientation among the coded pictures, in a container that has none."""
    plain, path = write_clip(tmp_path / "plain.ts", marked(4), options={"bf": "0"}), tmp_path / "turned.ts"
    with av.open(str(plain)) as given, av.open(str(path), "w") as made:
        source = given.streams.video[0]
        target = made.add_stream_from_template(source)
        inserter = BitStreamFilterContext(f"h264_metadata=display_orientation=insert:{asked}", source)
        for packet in given.demux(source):
            for changed in inserter.filter(packet if packet.size else None):
                changed.stream = target
                made.mux(changed)
    video = open_video(path)
    wanted = np.rot90(open_video(plain).all(), turns, axes=(1, 2))
    np.testing.assert_array_equal(video.all(), wanted[:, :, ::-1] if mirrored else wanted)
    assert video.conversions.made() == ({"mirrored": True} if mirrored else {"turned": True})


def test_a_matrix_of_nothing_turns_nothing(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", marked(2), prepare=lambda stream: stream.set_display_matrix([0] * 9))
    video = open_video(path)
    assert video.all().shape == (2, 64, 96, 3) and not video.conversions.made()


def test_quarter_turns_are_those_of_numpy() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    turns = [Orientation(), Orientation(True, False, True), Orientation(False, True, True), Orientation(True, True)]
    for quarter, turn in enumerate(turns):
        np.testing.assert_array_equal(turn.of(pixels), np.rot90(pixels, quarter))
        assert turn.size((4, 2)) == turn.of(pixels).shape[1::-1] and not turn.mirrored


def test_side_data_that_has_no_name_hides_no_turn() -> None:
    class Strange:
        rotation = 90

        @property
        def side_data(self) -> Any:
            raise ValueError("33 is not a valid Type")

    assert orientation(Strange()) == Orientation(True, False, True)


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", "mp4"), ("libx264", "mkv"), ("libx264", "ts"), ("mpeg4", "avi"), ("mpeg4", "mov")]
)
@pytest.mark.parametrize(
    ("aspect", "shown"), [(Fraction(16, 11), (140, 64)), (Fraction(12, 11), (104, 64)), (Fraction(3, 4), (96, 86))]
)
def test_pixels_become_square(
    tmp_path: Path, codec: str, suffix: str, aspect: Fraction, shown: tuple[int, int]
) -> None:
    """A circle in the picture is one on the screen: with pixels a third wider than high it must not come out thin."""
    y, x = np.mgrid[:64, :96].astype(float)
    ball = np.where(np.hypot((x - 47.5) * float(aspect), y - 31.5) < 20, 230, 20).astype(np.uint8)
    path = write_clip(
        tmp_path / f"a.{suffix}", [np.repeat(ball[..., None], 3, 2)] * 3, codec, prepare=with_aspect(aspect)
    )
    video = open_video(path)
    frame = video.all()[0]
    assert (video.facts.width, video.facts.height) == shown == frame.shape[1::-1]
    light = frame[..., 1] > 128
    assert abs(light.any(0).sum() / light.any(1).sum() - 1) < 0.07
    assert video.conversions.made() == {"squared": True}
    picture = next(video.pictures())
    assert (picture.width, picture.height) == shown
    box = (40, 10, 90, 60)
    drawn = picture.draw(box, None)
    assert np.abs(drawn[10:60, 40:90].astype(int) - frame[10:60, 40:90]).max() <= 3


def test_turned_pixels_that_are_not_square_stay_round(tmp_path: Path) -> None:
    def prepare(stream: Any) -> None:
        with_aspect(Fraction(4, 3))(stream)
        stream.set_display_rotation(90)

    video = open_video(write_clip(tmp_path / "a.mp4", marked(2), prepare=prepare))
    assert (video.facts.width, video.facts.height) == (64, 128)
    assert video.all().shape == (2, 128, 64, 3)


def test_the_shape_of_pixels_may_change_within_a_stream(tmp_path: Path) -> None:
    """As in television, from 4:3 to 16:9: the second part is as wide as it is, in the frame of the first."""
    parts = [
        write_clip(tmp_path / f"{name}.ts", marked(20), options={"bf": "2"}, prepare=with_aspect(aspect)).read_bytes()
        for name, aspect in (("a", Fraction(1)), ("b", Fraction(2)))
    ]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    video = open_video(tmp_path / "both.ts")
    frames = list(video.frames())
    assert {frame.shape for frame in frames} == {(64, 96, 3)}
    assert video.conversions.squared and video.conversions.resized
    # 192 x 64 fitted into 96 x 64: black above and below, from the first picture of the second part on.
    letterboxed = [frame[:14].max() < 20 and frame[-14:].max() < 20 for frame in frames]
    assert not any(letterboxed[:19]) and all(letterboxed[21:]) and len(frames) >= 39


def test_a_resolution_that_changes_is_fitted_into_the_first(tmp_path: Path) -> None:
    """As of a telephone call whose picture grows, or is turned."""
    parts = [
        write_clip(tmp_path / f"{height}.ts", marked(15, height, width)).read_bytes()
        for height, width in ((64, 96), (128, 192), (96, 64))
    ]
    (tmp_path / "call.ts").write_bytes(b"".join(parts))
    video = open_video(tmp_path / "call.ts")
    assert "resized" not in video.conversions.made()
    frames = video.all()
    assert frames.shape[1:] == (64, 96, 3) and len(frames) >= 43
    assert video.conversions.made() == {"resized": True}
    # Grown: the same picture. Turned: upright in the middle, not stretched.
    assert frames[22, :14, :20].min() > 200 and frames[22, :14, -20:].max() < 40
    upright = frames[38]
    assert upright[:, :26].max() < 20 and upright[:, -26:].max() < 20 and upright[40:, 30:60].min() > 40
    assert {(picture.width, picture.height) for picture in video.pictures()} == {(96, 64)}
    for frame, picture in zip(frames, video.pictures(), strict=True):
        np.testing.assert_array_equal(np.asarray(picture), frame)


def test_pixels_as_shown_are_bounded(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "wide.mkv", marked(3), prepare=with_aspect(Fraction(60)))
    with pytest.raises(CorruptFileError, match=r"wide\.mkv has frames of 5760 x 64 pixels"):
        open_video(path, MediaSettings(pixels_a_frame=10**5))
    assert open_video(path).facts.width == 5760


def test_sizes() -> None:
    assert squared((720, 576), Fraction(16, 11)) == (1048, 576)
    assert squared((1440, 1080), Fraction(4, 3)) == (1920, 1080)
    assert squared((480, 640), Fraction(1, 2)) == (480, 1280)
    assert squared((95, 63), Fraction(1)) == (95, 63)
    assert fitted((1280, 720), (640, 360)) == (640, 360)
    assert fitted((480, 640), (640, 480)) == (360, 480)
    assert fitted((320, 180), (640, 360)) == (640, 360)
    assert fitted((10_000, 2), (64, 64)) == (64, 2)


def test_made_inputs_hold_what_they_say(tmp_path: Path) -> None:
    with av.open(str(write_clip(tmp_path / "a.mkv", marked(2), prepare=with_aspect(Fraction(2))))) as container:
        assert container.streams.video[0].sample_aspect_ratio == 2


def test_a_named_colour_profile_is_not_freed_twice(tmp_path: Path) -> None:
    """In a process of its own: the fault ends it when garbage is collected."""
    frames = [Image.fromarray(np.full((64, 64, 3), 40 * number, np.uint8)) for number in range(5)]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "drawn.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40, icc_profile=profile)
    code = (
        "import gc, sys; from pathlib import Path; from preparation.media.video import open_video\n"
        "print(len(open_video(Path(sys.argv[1])).all())); gc.collect()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "5\n")
