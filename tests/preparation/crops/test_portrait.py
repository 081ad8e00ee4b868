"""The picture and the sound that a talking head is made from: how they are cut, and what is refused."""

from __future__ import annotations

import wave
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common.errors import PrivFedTalkError
from common.weights import registry as weights
from preparation.crops.portrait import read_portrait, read_speech
from preparation.media.video import open_video
from preparation.media.writing import encode
from preparation.settings import CropSettings, FaceSettings, PreparationSettings
from tests.preparation.conftest import noise, tone

RENDERED = PreparationSettings(crops=CropSettings(size=64), faces=FaceSettings(tracker="truth"))
REAL = PreparationSettings(faces=FaceSettings(tracker="mediapipe"))


def save(path: Path, frame: np.ndarray) -> Path:
    Image.fromarray(frame).save(path)
    return path


@pytest.fixture(scope="module")
def person(clips_dir: Path) -> np.ndarray:
    return next(open_video(sorted((clips_dir / "grid").glob("*.mpg"))[0]).frames())


@pytest.fixture
def real(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> PreparationSettings:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    return REAL


def test_a_crop_needs_no_tracker_and_another_picture_does(tmp_path: Path) -> None:
    crop = noise(1, 64, 64)[0]
    portrait = read_portrait(save(tmp_path / "crop.png", crop), RENDERED)
    np.testing.assert_array_equal(portrait.frame, crop)
    assert "as it is" in portrait.how
    with pytest.raises(PrivFedTalkError, match="80 x 70 pixels, and no face tracker") as error:
        read_portrait(save(tmp_path / "other.png", noise(1, 70, 80)[0]), RENDERED)
    assert "64 x 64" in error.value.remedy


def test_a_face_is_cut_as_crops_are_and_a_crop_stays(
    real: PreparationSettings, person: np.ndarray, tmp_path: Path
) -> None:
    portrait = read_portrait(save(tmp_path / "person.png", person), real)
    assert portrait.frame.shape == (128, 128, 3)
    assert "around the face" in portrait.how
    again = read_portrait(save(tmp_path / "crop.png", portrait.frame), real)
    assert "already" in again.how
    np.testing.assert_array_equal(again.frame, portrait.frame)
    # A telephone's picture lies on its side and says so.
    lying = Image.fromarray(np.rot90(person, 1).copy())
    exif = lying.getexif()
    exif[0x0112] = 6
    lying.save(tmp_path / "phone.png", exif=exif)
    np.testing.assert_array_equal(read_portrait(tmp_path / "phone.png", real).frame, portrait.frame)


def test_no_face_two_faces_and_small_ones_are_refused(
    real: PreparationSettings, person: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(PrivFedTalkError, match=r"no face is found in wall\.png"):
        read_portrait(save(tmp_path / "wall.png", noise(1, 120, 160)[0]), real)
    with pytest.raises(PrivFedTalkError, match="shows 2 faces"):
        read_portrait(save(tmp_path / "two.png", np.hstack([person, person])), real)
    small = cv2.resize(person, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    with pytest.raises(PrivFedTalkError, match="pixels high, 40 are needed"):
        read_portrait(save(tmp_path / "small.png", small), real)


@pytest.mark.parametrize("content", [b"GIF", b"", b"not a picture at all"])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "face.jpg").write_bytes(content)
    with pytest.raises(PrivFedTalkError, match=r"face\.jpg is no picture"):
        read_portrait(tmp_path / "face.jpg", RENDERED)
    with pytest.raises(PrivFedTalkError, match="there is no picture"):
        read_portrait(tmp_path / "absent.jpg", RENDERED)


def test_of_a_clip_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = np.stack([np.full((64, 64, 3), 60 + number, np.uint8) for number in range(0, 100, 20)])
    encode(frames, None, tmp_path / "clip.mp4")
    found = read_portrait(tmp_path / "clip.mp4", RENDERED).frame
    assert found.shape == (64, 64, 3)
    assert abs(float(found.mean()) - 60) < 4


def test_half_a_picture_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "face.jpg", noise(1, 64, 64)[0])
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(PrivFedTalkError, match=r"face\.jpg cannot be read"):
        read_portrait(path, RENDERED)


def write_wav(path: Path, sound: np.ndarray, rate: int = 16_000, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(sound, channels).astype("<i2").tobytes())
    return path


def test_speech_comes_from_sound_files_and_from_clips(tmp_path: Path) -> None:
    sound = tone(1.0)
    np.testing.assert_array_equal(read_speech(write_wav(tmp_path / "a.wav", sound), RENDERED).sound, sound)
    stereo = read_speech(write_wav(tmp_path / "b.wav", tone(1.0, 160), rate=48_000, channels=2), RENDERED).sound
    assert abs(len(stereo) - len(sound) / 3) < 100
    encode(noise(25), sound, tmp_path / "clip.mp4")
    assert len(read_speech(tmp_path / "clip.mp4", RENDERED).sound) == pytest.approx(len(sound), abs=2048)


def test_silence_and_what_has_no_sound_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PrivFedTalkError, match=r"hush\.wav is silent"):
        read_speech(write_wav(tmp_path / "hush.wav", np.zeros(16_000, np.int16)), RENDERED)
    encode(noise(5), None, tmp_path / "mute.mp4")
    with pytest.raises(PrivFedTalkError, match=r"mute\.mp4 has no sound track"):
        read_speech(tmp_path / "mute.mp4", RENDERED)
    (tmp_path / "text.wav").write_text("la la la")
    with pytest.raises(PrivFedTalkError, match=r"text\.wav cannot be decoded"):
        read_speech(tmp_path / "text.wav", RENDERED)
    with pytest.raises(PrivFedTalkError, match="there is no sound file"):
        read_speech(tmp_path / "absent.wav", RENDERED)
    # A word in a minute of pause is speech.
    pause = np.zeros(30 * 16_000, np.int16)
    read_speech(write_wav(tmp_path / "word.wav", np.concatenate([pause, tone(0.1), pause])), RENDERED)
