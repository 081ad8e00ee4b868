"""Tracks, channels, kinds of samples and names: each is the right sound or is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from common.errors import CorruptFileError, PrivFedTalkError
from preparation.crops.portrait import read_speech
from preparation.media.limits import BeyondLimitError
from preparation.media.rates import AUDIO_RATE_HZ
from preparation.media.sound import open_sound
from preparation.settings import MediaSettings, PreparationSettings
from tests.preparation.media.made_sound import hum, pitch, put, wav, write


def tracks(path: Path, levels: Sequence[float], default: int | None) -> Path:
    """Tracks of a hum at these pitches (hertz)."""
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("aac", rate=16_000, layout="mono") for _ in levels]
        for number, stream in enumerate(streams):
            stream.disposition = Disposition.default if number == default else Disposition(0)
        for stream, hertz in zip(streams, levels, strict=True):
            frame = av.AudioFrame.from_ndarray(hum(1.0, 16_000, hertz)[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, 0
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                out.mux(packet)
    return path


def undecodable(path: Path, number: int) -> Path:
    """The track's codec renamed to Apple's spatial audio."""
    content = path.read_bytes()
    places = [at for at in range(len(content)) if content.startswith(b"mp4a", at)]
    entry = places[number]
    esds = content.index(b"esds", entry)
    path.write_bytes(content[:entry] + b"apac" + content[entry + 4 : esds] + b"free" + content[esds + 4 :])
    return path


def test_the_default_track_is_heard(tmp_path: Path) -> None:
    path = tracks(tmp_path / "a.mkv", [300, 500, 700], default=1)
    source = open_sound(path)
    assert pitch(source.samples()) == 500 and source.conversions.sound_track == 1


def test_a_track_without_a_decoder_gives_way_to_one_that_has(tmp_path: Path) -> None:
    path = undecodable(tracks(tmp_path / "a.mp4", [300, 500], default=0), 0)
    source = open_sound(path)
    assert pitch(source.samples()) == 500 and source.conversions.sound_track == 1
    with pytest.raises(CorruptFileError, match=r"b\.mp4 has no sound track that can be decoded \(apac\)") as caught:
        open_sound(undecodable(tracks(tmp_path / "b.mp4", [300], default=0), 0))
    assert "ffmpeg" in caught.value.remedy


@pytest.mark.parametrize(
    ("suffix", "codec"), [("wav", "pcm_s16le"), ("mp4", "aac"), ("mka", "flac"), ("ogg", "libopus")]
)
def test_a_pair_that_cancels_is_heard_by_one_channel(tmp_path: Path, suffix: str, codec: str) -> None:
    voice = hum(1.0, 48_000)
    path = write(
        tmp_path / f"a.{suffix}", [(0.0, np.stack([voice, -(voice * 0.9).astype(np.int16)]))], codec, 48_000, "stereo"
    )
    source = open_sound(path)
    sound = source.samples()
    assert np.sqrt(np.mean(sound[3200:12_800].astype(float) ** 2)) == pytest.approx(8000 / np.sqrt(2), rel=0.05)
    assert source.conversions.channel == "left"
    speech = read_speech(path, PreparationSettings())
    np.testing.assert_array_equal(speech.sound, sound)
    assert speech.conversions == {"channel": "left"}


def test_a_pair_that_cancels_in_a_part_of_a_video(tmp_path: Path) -> None:
    voice = hum(3.0, 48_000)
    path = write(tmp_path / "a.mkv", [(0.0, np.stack([voice, -voice]))], "pcm_s16le", 48_000, "stereo", pictures=3.0)
    for sound in (open_sound(path).span(1.0, 2.0), open_sound(path).in_step()[16_000:32_000]):
        assert np.abs(sound.astype(int)).max() > 7900


def test_one_dead_channel_does_not_halve_the_voice(tmp_path: Path) -> None:
    voice = hum(1.0, 48_000)
    path = write(tmp_path / "a.wav", [(0.0, np.stack([0 * voice, voice]))], "pcm_s16le", 48_000, "stereo")
    source = open_sound(path)
    assert np.abs(source.samples().astype(int)).max() > 7900 and source.conversions.channel == "right"


def test_every_kind_of_sample_is_the_same_sound(tmp_path: Path) -> None:
    true = hum(1.0, 16_000).astype(np.float64) / 32768
    in_24 = (true * 2**23).astype("<i4")[:, None].view(np.uint8).reshape(-1, 4)[:, :3]
    kinds = {
        "s16": wav((true * 2**15).astype("<i2")),
        "s24": wav(in_24, bits=24),
        "s32": wav((true * 2**31).astype("<i4")),
        "s64": wav((true * 2**63).astype("<i8")),
        "u8": wav((true * 128 + 128).astype("u1")),
        "f32": wav(true.astype("<f4"), kind=3),
        "f64": wav(true.astype("<f8"), kind=3),
        "stereo s64": wav(np.repeat((true * 2**63).astype("<i8"), 2), channels=2),
        "stereo f64": wav(np.repeat(true, 2).astype("<f8"), kind=3, channels=2),
    }
    for name, content in kinds.items():
        sound = open_sound(put(tmp_path / "a.wav", content)).samples()
        assert len(sound) == 16_000 and np.abs(sound / 32768 - true).max() < (0.01 if name == "u8" else 1e-4), name
    law = write(tmp_path / "law.wav", [(0.0, hum(1.0, 8_000))], "pcm_mulaw", 8_000)
    assert np.abs(open_sound(law).samples() / 32768 - true)[100:-100].max() < 0.02


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, bad: float, dtype: str) -> None:
    samples = (hum(1.0, 16_000) / 32768).astype(dtype)
    samples[9_000] = bad
    path = put(tmp_path / "nan.wav", wav(samples, kind=3))
    with pytest.raises(CorruptFileError, match=r"nan\.wav holds samples that are no numbers") as caught:
        open_sound(path).samples()
    assert "16-bit WAV" in caught.value.remedy


def test_floats_in_the_unit_of_integers_are_refused_not_clipped(tmp_path: Path) -> None:
    path = put(tmp_path / "loud.wav", wav(hum(1.0, 16_000).astype("<f4"), kind=3))
    with pytest.raises(CorruptFileError, match=r"loud\.wav holds floating-point sound far beyond full scale"):
        open_sound(path).samples()
    clipped = np.clip(hum(1.0, 16_000) / 7900, -2, 2).astype("<f4")
    assert len(open_sound(put(tmp_path / "some.wav", wav(clipped, kind=3))).samples()) == 16_000


@pytest.mark.parametrize("rate", [8_000, 11_025, 96_000, 192_000])
def test_rates_of_sound(tmp_path: Path, rate: int) -> None:
    sound = open_sound(put(tmp_path / "a.wav", wav(hum(1.0, rate), rate))).samples()
    assert abs(len(sound) - AUDIO_RATE_HZ) < 40 and pitch(np.resize(sound, 16_000)) == pytest.approx(220, abs=2)


@pytest.mark.parametrize("rate", [0, 1, 100, 2**31 - 1, 2**32 - 1])
@pytest.mark.parametrize("count", [3, 5_000])
def test_rates_that_no_sound_has_are_refused(tmp_path: Path, rate: int, count: int) -> None:
    with pytest.raises(CorruptFileError, match=r"odd\.wav"):
        open_sound(put(tmp_path / "odd.wav", wav(np.ones(count, "<i2"), rate))).samples()


@pytest.mark.parametrize(
    ("suffix", "codec", "layout"),
    [
        ("m4a", "aac", "7.1"),
        ("mka", "flac", "7.1"),
        ("wv", "wavpack", "7.1"),
        ("wv", "wavpack", "hexadecagonal"),
        ("aiff", "pcm_s16be", "7.1"),
        ("caf", "pcm_s16be", "7.1"),
    ],
)
def test_many_channels_in_any_order_are_read(tmp_path: Path, suffix: str, codec: str, layout: str) -> None:
    """PyAV's list of eight or more planes runs past their pointers, and it frees twice the maps of channels that are in
    an order of their own, as in AIFF and CAF: the process died of either."""
    channels = np.zeros((av.AudioLayout(layout).nb_channels, 48_000), np.int16)
    channels[2] = hum(1.0, 48_000)
    path = write(tmp_path / f"a.{suffix}", [(0.0, channels)], codec, 48_000, layout)
    assert pitch(open_sound(path).samples()) == pytest.approx(220, abs=2)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 16, 17, 24, 32, 64, 100])
@pytest.mark.parametrize("place", ["first", "last", "all"])
def test_a_voice_in_any_of_many_channels_is_heard(tmp_path: Path, channels: int, place: str) -> None:
    samples = np.zeros((4_000, channels), "<i2")
    chosen: dict[str, int | slice] = {"first": 0, "last": channels - 1, "all": slice(None)}
    samples[:, chosen[place]] = hum(0.25, 16_000)[:, *([None] if place == "all" else [])]
    sound = open_sound(put(tmp_path / "a.wav", wav(samples, channels=channels))).samples()
    assert len(sound) == 4_000 and np.abs(sound.astype(int)).max() > 1500


@pytest.mark.parametrize("channels", [0, 600, 65_535])
def test_numbers_of_channels_that_no_sound_has_are_refused(tmp_path: Path, channels: int) -> None:
    with pytest.raises(CorruptFileError, match=r"odd\.wav (cannot|can) be decoded"):
        open_sound(put(tmp_path / "odd.wav", wav(np.zeros(1000, "<i2"), channels=channels))).samples()


@pytest.mark.parametrize("count", [0, 1, 3, 20, 100])
def test_sound_of_no_length_is_no_speech(tmp_path: Path, count: int) -> None:
    path = put(tmp_path / "short.wav", wav(np.full(count, 9000, "<i2"), 44_100))
    assert len(open_sound(path).samples()) < 100
    if count <= 20:
        with pytest.raises(PrivFedTalkError, match=r"short\.wav"):
            read_speech(path, PreparationSettings())


def test_a_centre_of_5_1_is_heard(tmp_path: Path) -> None:
    voice, rumble = hum(1.0, 48_000), 3 * hum(1.0, 48_000, 40.0)
    channels = np.stack([0 * voice, 0 * voice, voice, rumble, 0 * voice, 0 * voice])
    path = write(tmp_path / "a.mka", [(0.0, channels)], "flac", 48_000, "5.1")
    source = open_sound(path)
    assert pitch(source.samples()) == pytest.approx(220, abs=2) and source.conversions.channel == ""


@pytest.mark.parametrize(
    "error",
    [AttributeError, ValueError, TypeError, MemoryError, EOFError, RuntimeError, KeyError, ZeroDivisionError],
)
def test_whatever_a_library_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    path = put(tmp_path / "any.wav", wav(hum(1.0, 16_000)))

    def broken(*_: object, **__: object) -> object:
        raise error("what nobody foresaw")

    source = open_sound(path)
    monkeypatch.setattr(av, "AudioResampler", broken)
    with pytest.raises(CorruptFileError, match=r"any\.wav") as caught:
        source.samples()
    assert caught.value.remedy
    monkeypatch.setattr(av, "open", broken)
    with pytest.raises(CorruptFileError, match=r"any\.wav"):
        open_sound(path)


@pytest.mark.parametrize(
    "name", ["2026-11-29T12:30:00.wav", "file:a.wav", "http:a.wav", "-i.wav", "a%03d.wav", "ä #.wav"]
)
def test_any_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / name, wav(hum(1.0, 16_000)))
    assert len(read_speech(Path(name), PreparationSettings()).sound) == 16_000


def test_floods_of_samples_are_bounded(tmp_path: Path) -> None:
    """Silence packs well: hours of eight channels are a small file. Here the bound is made small instead."""
    path = put(tmp_path / "flood.wav", wav(np.zeros((38_400, 8), "<i2"), 192_000, channels=8))
    assert len(open_sound(path).samples()) == 3200
    with pytest.raises(BeyondLimitError, match=r"flood\.wav has more samples of sound"):
        open_sound(path, MediaSettings(frames=6)).samples()
