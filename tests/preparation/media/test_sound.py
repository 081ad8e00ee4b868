"""Sound stays where its timestamps put it, and is read whole whatever changes or is damaged on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from common.errors import CorruptFileError
from preparation.corpora.manifest import load_manifest, save_manifest, scan
from preparation.media.limits import BeyondLimitError
from preparation.media.rates import AUDIO_RATE_HZ
from preparation.media.sound import open_sound
from preparation.media.sound_track.timeline import OVERLAP_SECONDS
from preparation.settings import MediaSettings
from tests.preparation.media.made_sound import Samples, clicks, hum, onsets, write

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
