"""Sound stays where its timestamps put it and is read whole whatever changes on the way, or is refused by name."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from preparation.errors import CorruptFileError, PrivFedTalkError
from preparation.manifest import load_manifest, save_manifest, scan
from preparation.media.limits import BeyondLimitError
from preparation.media.rates import AUDIO_RATE_HZ
from preparation.media.sound import open_sound
from preparation.media.sound_timeline import OVERLAP_SECONDS
from preparation.portrait import read_speech
from preparation.settings import MediaSettings, PreparationSettings

Samples = NDArray[np.int16]


def hum(seconds: float, rate: int, hertz: float = 220.0) -> Samples:
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.int16)


def clicks(seconds: float, rate: int, every: float = 0.5) -> Samples:
    """A short burst of 1 kHz at every `every` seconds, 0.1 s after it."""
    times = np.arange(round(seconds * rate)) / rate
    return (12_000 * np.sin(2 * np.pi * 1000 * times) * (np.abs(times % every - 0.1) < 0.005)).astype(np.int16)


def onsets(sound: Samples) -> list[float]:
    """When the bursts are, seconds."""
    loud = np.flatnonzero(np.abs(sound.astype(int)) > 3000) / AUDIO_RATE_HZ
    return [float(group.mean()) for group in np.split(loud, np.flatnonzero(np.diff(loud) > 0.1) + 1) if len(group)]


def write(
    path: Path,
    blocks: Sequence[tuple[float, Samples]],
    codec: str,
    rate: int = 48_000,
    layout: str = "mono",
    pictures: float = 0.0,
    container: str | None = None,
) -> Path:
    """Blocks of samples [S] or [channels, S], each put at its seconds; grey pictures for so many seconds beside them.

    Every packet is moved as its block is, so that holes and overlaps lie between packets of one continuous stream.
    """
    with av.open(str(path), "w", format=container) as out:
        video = out.add_stream("mpeg4", rate=25) if pictures else None
        sound = out.add_stream(codec, rate=rate, layout=layout)
        packets = []
        if video is not None:
            video.width = video.height = 32
            video.pix_fmt = "yuv420p"
            for number in range(round(pictures * 25)):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8), format="rgb24")
                frame.pts = number
                packets += video.encode(frame)
            packets += video.encode(None)
        whole = np.concatenate([np.atleast_2d(block) for _, block in blocks], axis=1)
        moves, done = [], 0
        for seconds, block in blocks:
            moves.append((done / rate, seconds - done / rate))
            done += np.atleast_2d(block).shape[1]
        for start in range(0, whole.shape[1], 1024):
            part = np.ascontiguousarray(whole[:, start : start + 1024].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            packets += sound.encode(frame)
        packets += sound.encode(None)
        for packet in packets:
            if packet.stream is sound:
                middle = float((packet.pts + (packet.duration or 0) / 2) * packet.time_base)
                move = [by for since, by in moves if since <= max(0.0, middle)][-1]
                packet.pts = packet.dts = packet.pts + round(move / packet.time_base)
        packets.sort(key=lambda packet: float(packet.dts * packet.time_base))
        for packet in packets:
            out.mux(packet)
    return path


CONTAINERS = [("mkv", "pcm_s16le"), ("mkv", "aac"), ("mp4", "aac"), ("webm", "libopus"), ("ts", "aac"), ("flv", "aac")]


def with_pictures(path: Path, codec: str, blocks: Sequence[tuple[float, Samples]], seconds: float) -> Path:
    """The blocks in a clip; WebM takes no pictures of this kind and stays without."""
    return write(path, blocks, codec, pictures=0 if path.suffix in {".webm", ".flv"} else seconds)


@pytest.mark.parametrize(("suffix", "codec"), CONTAINERS)
def test_a_hole_in_the_timestamps_is_silence(tmp_path: Path, suffix: str, codec: str) -> None:
    """A second is missing after the first: what follows stays in step with the pictures."""
    whole = clicks(3.0, 48_000)
    path = with_pictures(tmp_path / f"hole.{suffix}", codec, [(0.0, whole[:48_000]), (2.0, whole[48_000:])], 4.0)
    source = open_sound(path)
    sound = source.samples() if suffix in {"webm", "flv"} else source.in_step()
    expected = [0.1, 0.6, 2.1, 2.6, 3.1, 3.6]
    assert onsets(sound) == pytest.approx(expected, abs=0.025 if suffix == "flv" else 0.01)  # FLV keeps the priming
    assert source.conversions.filled_seconds == pytest.approx(1.0, abs=0.03)
    assert not sound[round(1.2 * AUDIO_RATE_HZ) : round(1.9 * AUDIO_RATE_HZ)].any()


def test_a_part_of_a_video_has_its_holes_too(tmp_path: Path) -> None:
    whole = clicks(3.0, 48_000)
    path = write(tmp_path / "hole.mkv", [(0.0, whole[:48_000]), (2.0, whole[48_000:])], "pcm_s16le", pictures=4.0)
    assert onsets(open_sound(path).span(0.5, 3.0)) == pytest.approx([0.1, 1.6, 2.1], abs=0.01)
    assert open_sound(path).span(1.2, 1.8).tolist() == [0] * 9600
    assert onsets(open_sound(path).span(2.0, 9.0)) == pytest.approx([0.1, 0.6, 1.1, 1.6], abs=0.01)


def test_packets_see_a_hole_without_decoding(tmp_path: Path) -> None:
    whole = hum(3.0, 48_000)
    path = write(tmp_path / "hole.mp4", [(0.0, whole[:48_000]), (2.0, whole[48_000:])], "aac", pictures=4.0)
    assert open_sound(path).look().filled_seconds == pytest.approx(1.0, abs=0.03)
    assert open_sound(write(tmp_path / "a.mkv", [(0.0, whole)], "aac", rate=44_100)).look().made() == {}


def test_the_manifest_says_where_sound_is_filled_and_which_track_is_heard(tmp_path: Path) -> None:
    whole = hum(3.0, 48_000)
    write(tmp_path / "hole.mkv", [(0.0, whole[:48_000]), (2.0, whole[48_000:])], "aac", pictures=4.0)
    write(tmp_path / "whole.mkv", [(0.0, whole)], "aac", pictures=3.0)
    save_manifest(scan("folder", tmp_path).clips, tmp_path / "manifest.parquet")
    holed, sound = load_manifest(tmp_path / "manifest.parquet")
    assert holed.conversions.filled_seconds == pytest.approx(1.0, abs=0.03)
    assert sound.conversions.made() == {}


def test_many_holes_do_not_add_up_to_an_error(tmp_path: Path) -> None:
    """Half of the packets are lost, each by itself; a burst says where it was at the end."""
    rate, block = 48_000, 2048
    whole = clicks(6.0, rate)
    blocks = [(start / rate, whole[start : start + block]) for start in range(0, len(whole) - block, 2 * block)]
    source = open_sound(write(tmp_path / "a.mkv", blocks, "pcm_s16le"))
    sound = source.samples()
    assert abs(len(sound) / AUDIO_RATE_HZ - 6.0) < 0.1
    assert source.conversions.filled_seconds == pytest.approx(3.0, abs=0.1)
    times = np.arange(len(sound)) / AUDIO_RATE_HZ
    assert not sound[np.abs(times % 0.5 - 0.1) > 0.03].any()


@pytest.mark.parametrize("hole", [100.0, 9_000.0, 400_000.0])
def test_more_hole_than_sound_is_refused_and_not_filled(tmp_path: Path, hole: float) -> None:
    whole = hum(2.0, 16_000)
    path = write(tmp_path / "far.mkv", [(0.0, whole[:16_000]), (hole, whole[16_000:])], "pcm_s16le", 16_000)
    with pytest.raises(BeyondLimitError, match=r"far\.mkv (has holes of|has sound beyond)") as caught:
        open_sound(path).samples()
    assert "preparation.corpus.media." in caught.value.remedy
    assert len(open_sound(path, MediaSettings(longest_gap_seconds=10**6, frames=10**8)).samples()) >= hole * 16_000


def test_late_packets_make_no_click(tmp_path: Path) -> None:
    """Timestamps tremble by 20 ms, as of a recorder that stamps packets when they arrive."""
    rate, rng = 48_000, np.random.default_rng(0)
    whole = hum(3.0, rate)
    late = rng.uniform(0, 0.02, len(whole) // 1024 + 1)
    late[::4] = late[-1] = 0
    blocks = [
        (start / rate + late[number], whole[start : start + 1024])
        for number, start in enumerate(range(0, len(whole), 1024))
    ]
    source = open_sound(write(tmp_path / "late.mkv", blocks, "pcm_s16le"))
    plain = open_sound(write(tmp_path / "plain.mkv", [(0.0, whole)], "pcm_s16le"))
    np.testing.assert_array_equal(source.samples(), plain.samples())
    assert source.conversions.made() == {}


def test_an_overlap_keeps_what_follows_in_step(tmp_path: Path) -> None:
    rate = 48_000
    whole = clicks(4.0, rate)
    path = write(tmp_path / "over.mkv", [(0.0, whole[: 2 * rate]), (1.7, whole[2 * rate :])], "pcm_s16le")
    source = open_sound(path)
    assert onsets(source.samples()) == pytest.approx([0.1, 0.6, 1.1, 1.6, 1.8, 2.3, 2.8, 3.3], abs=OVERLAP_SECONDS / 2)
    assert source.conversions.lost_sound_seconds == pytest.approx(0.3, abs=0.02)


def test_time_that_begins_anew_plays_on(tmp_path: Path) -> None:
    """Files joined end to end: their sound is whole; beside pictures nobody can say where it belongs."""
    for name in ("a", "b"):
        write(tmp_path / f"{name}.ts", [(0.0, clicks(2.0, 48_000))], "aac", pictures=2.0)
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    assert onsets(open_sound(joined).samples()) == pytest.approx([0.1, 0.6, 1.1, 1.6, 2.1, 2.6, 3.1, 3.6], abs=0.06)
    with pytest.raises(CorruptFileError, match=r"joined\.ts begins anew") as caught:
        open_sound(joined).in_step()
    assert "joined" in caught.value.remedy


ORDINARY = [
    *CONTAINERS,
    ("mp3", "libmp3lame"), ("m4a", "alac"), ("mkv", "libmp3lame"), ("avi", "libmp3lame"), ("avi", "pcm_s16le"),
    ("wav", "pcm_s16le"), ("wav", "pcm_s24le"), ("wav", "pcm_mulaw"), ("wav", "adpcm_ms"), ("flac", "flac"),
    ("ogg", "libopus"), ("aac", "aac"), ("mpg", "mp2"), ("ac3", "ac3"), ("caf", "pcm_s16be"), ("aiff", "pcm_s16be"),
    ("mka", "flac"), ("wv", "wavpack"), ("tta", "tta"),
]  # fmt: skip


@pytest.mark.parametrize("layout", ["mono", "stereo"])
@pytest.mark.parametrize(("suffix", "codec"), ORDINARY)
def test_ordinary_sound_is_what_ffmpeg_decodes(tmp_path: Path, suffix: str, codec: str, layout: str) -> None:
    rate = 48_000 if codec in {"libopus", "mp2", "ac3"} else 44_100
    channels = [hum(1.5, rate), hum(1.5, rate, 330.0)][: 1 if layout == "mono" else 2]
    path = write(tmp_path / f"a.{suffix}", [(0.0, np.stack(channels))], codec, rate, layout)
    source = open_sound(path)
    np.testing.assert_array_equal(source.samples(), plainly(path))
    assert source.conversions.made() == {}


def plainly(path: Path) -> Samples:
    """What the decoder gives, one frame after another, resampled as one stream."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=AUDIO_RATE_HZ)
    with av.open(str(path)) as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate([part.to_ndarray()[0] for part in [*frames, *resampler.resample(None)]])


def test_real_clips_are_read_as_ffmpeg_decodes_them(clips_dir: Path) -> None:
    for path in sorted(clips_dir.rglob("*.mp4")) + sorted(clips_dir.rglob("*.mpg"))[:3]:
        source = open_sound(path)
        np.testing.assert_array_equal(source.samples(), plainly(path))
        assert source.conversions.made() == {}


def joined(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


def tag(size: int) -> bytes:
    """An ID3 tag full of noise, as a cover is to whoever looks for frames."""
    noise = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8).tobytes()
    return b"ID3\x03\x00\x00" + bytes((size >> shift) & 127 for shift in (21, 14, 7, 0)) + noise


@pytest.mark.parametrize(
    ("rate", "layout"), [(44_100, "mono"), (22_050, "mono"), (44_100, "stereo"), (48_000, "stereo")]
)
@pytest.mark.parametrize("between", [b"", tag(50_000)])
@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "libmp3lame"), ("aac", "aac"), ("ts", "aac")])
def test_joined_files_of_any_rate_are_read_whole(
    tmp_path: Path, suffix: str, codec: str, between: bytes, rate: int, layout: str
) -> None:
    if between and suffix != "mp3":
        between = b""
    one = write(tmp_path / f"one.{suffix}", [(0.0, clicks(2.0, 44_100))], codec, 44_100)
    channels = np.stack([clicks(2.0, rate)] * (1 if layout == "mono" else 2))
    two = write(tmp_path / f"two.{suffix}", [(0.0, channels)], codec, rate, layout)
    source = open_sound(joined(tmp_path / f"both.{suffix}", one.read_bytes(), between, two.read_bytes()))
    sound = source.samples()
    assert onsets(sound) == pytest.approx([0.1, 0.6, 1.1, 1.6, 2.1, 2.6, 3.1, 3.6], abs=0.11)
    assert np.diff(onsets(sound)[4:]) == pytest.approx([0.5] * 3, abs=0.003)
    made = source.conversions
    assert made.resampled == ((rate, layout) != (44_100, "mono"))
    assert made.filled_seconds == pytest.approx(made.lost_sound_seconds) and made.lost_sound_seconds < 0.06


def damaged(path: Path, first: float, last: float, every: int, keep: int = 60) -> Path:
    """Packets from `first` to `last` seconds, every n-th of them, overwritten with zeros but for their first bytes."""
    with av.open(str(path)) as container:
        packets = [
            (packet.pos, packet.size)
            for packet in container.demux(audio=0)
            if packet.size and packet.pos is not None and first <= float(packet.pts * packet.time_base) < last
        ]
    content = bytearray(path.read_bytes())
    for position, size in packets[::every]:
        content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("mkv", "libmp3lame"), ("mp4", "libmp3lame")])
def test_damaged_packets_are_silent_in_their_place(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write(tmp_path / f"a.{suffix}", [(0.0, clicks(4.0, 48_000))], codec, pictures=4.0)
    source = open_sound(damaged(path, 1.3, 1.5, 1))
    sound = source.in_step()
    expected = [0.1, 0.6, 1.1, 1.6, 2.1, 2.6, 3.1, 3.6]
    heard = onsets(sound)
    assert [time for time in heard if not 1.25 < time < 1.58] == pytest.approx(expected, abs=0.01)
    made = source.conversions
    assert 0.1 < made.filled_seconds < 0.3
    # The parser of MP3 passes over what are no headers: nothing but the hole is left to see.
    assert made.lost_sound_seconds == pytest.approx(made.filled_seconds if codec == "aac" else 0.0, abs=0.05)


def test_sound_of_which_most_is_damaged_is_refused(tmp_path: Path) -> None:
    path = damaged(write(tmp_path / "bad.mp4", [(0.0, hum(3.0, 48_000))], "aac"), 0.2, 3.0, 1)
    with pytest.raises(CorruptFileError, match=r"most of the sound of bad\.mp4 cannot be decoded") as caught:
        open_sound(path).samples()
    assert "copy or download it again" in caught.value.remedy


def test_sound_of_which_all_is_damaged_is_refused(tmp_path: Path) -> None:
    path = damaged(write(tmp_path / "bad.mp4", [(0.0, hum(2.0, 48_000))], "aac"), -1.0, 3.0, 1)
    with pytest.raises(CorruptFileError, match=r"bad\.mp4"):
        open_sound(path).samples()


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


def pitch(sound: Samples) -> int:
    return int(np.abs(np.fft.rfft(sound[2000:14_000])).argmax() * AUDIO_RATE_HZ / 12_000)


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


def wav(
    samples: NDArray[np.generic], rate: int = 16_000, kind: int = 1, channels: int = 1, bits: int | None = None
) -> bytes:
    """A WAV of these samples as they lie in memory; kind 1 is integers, 3 floating point, 7 µ-law."""
    bits = bits or 8 * samples.dtype.itemsize
    frame = channels * bits // 8
    data = samples.tobytes()
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * frame % 2**32, frame % 2**16, bits)
    chunks = b"fmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


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


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 16, 17, 24, 32, 64, 100])
@pytest.mark.parametrize("place", ["first", "last", "all"])
def test_a_voice_in_any_of_many_channels_is_heard(tmp_path: Path, channels: int, place: str) -> None:
    samples = np.zeros((4_000, channels), "<i2")
    samples[:, {"first": 0, "last": channels - 1, "all": slice(None)}[place]] = hum(0.25, 16_000)[
        :, *([None] if place == "all" else [])
    ]
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
