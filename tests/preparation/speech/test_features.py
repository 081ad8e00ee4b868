from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest

from preparation.crops.active_speaker import mfcc
from preparation.media.rates import AUDIO_RATE_HZ, SAMPLES_PER_FRAME
from preparation.media.sound import open_sound
from preparation.speech.features import DIM, FLOOR, FMAX_HZ, HOP, MEAN, N_FFT, SCALE, TOKENS, speech_features


def test_shape_and_type() -> None:
    features = speech_features(np.zeros(9 * SAMPLES_PER_FRAME, dtype=np.int16), 9)
    assert features.shape == (9, TOKENS, DIM) and features.dtype == np.float32
    np.testing.assert_allclose(features, (np.log(FLOOR) - MEAN) / SCALE, rtol=1e-5)


@pytest.mark.parametrize("frame", [0, 3, 11, 24])
def test_impulse_lies_in_the_middle_of_its_frame(frame: int) -> None:
    """A click at f/25 s is seen symmetrically in frame f's window, earlier in f + 1's and later in f - 1's."""
    audio = np.zeros(25 * SAMPLES_PER_FRAME, dtype=np.int16)
    audio[frame * SAMPLES_PER_FRAME] = 30000
    energy = np.exp(speech_features(audio, 25).mean(axis=2).astype(np.float64))
    energy -= energy.min()
    centre = (energy @ np.arange(TOKENS)) / np.maximum(energy.sum(axis=1), 1e-9)
    assert centre[frame] == pytest.approx((TOKENS - 1) / 2, abs=0.02)
    if frame > 0:
        assert centre[frame - 1] == pytest.approx((TOKENS - 1) / 2 + 4, abs=0.02)
    if frame < 24:
        assert centre[frame + 1] == pytest.approx((TOKENS - 1) / 2 - 4, abs=0.02)


def test_equals_librosa(clips_dir: Path) -> None:
    audio = open_sound(clips_dir / "grid/bbaf2n.mpg").in_step()
    ours = speech_features(audio, 75)
    # librosa's own frames are centred on multiples of the hop; ours half a hop later.
    signal = audio.astype(np.float32)[HOP // 2 :] / 32768
    mel = librosa.feature.melspectrogram(
        y=signal, sr=AUDIO_RATE_HZ, n_fft=N_FFT, hop_length=HOP, n_mels=DIM, fmax=FMAX_HZ
    )
    theirs = (np.log(mel.T + FLOOR) - MEAN) / SCALE
    for frame in (10, 40, 60):
        np.testing.assert_allclose(ours[frame], theirs[4 * frame - 10 : 4 * frame + 10], atol=1e-4)


def test_normalised_on_real_speech(clips_dir: Path) -> None:
    names = ("grid/bbaf2n.mpg", "grid/sbia1a.mpg", "hdtf_WDA_KatieHill_000.mp4", "lrs3/pretrain/C8zY0oAdQrs/00018.mp4")
    features = np.concatenate([speech_features(open_sound(clips_dir / name).in_step(), 70).ravel() for name in names])
    assert abs(features.mean()) < 0.5 and 0.7 < features.std() < 1.4


def test_short_sound_is_padded_with_silence() -> None:
    rng = np.random.default_rng(0)
    audio = rng.integers(-3000, 3000, 10 * SAMPLES_PER_FRAME).astype(np.int16)
    longer = speech_features(audio, 14)
    np.testing.assert_allclose(longer[:7], speech_features(audio, 10)[:7], atol=1e-5)
    assert longer[-1].max() == longer[-1].min()


@pytest.mark.parametrize("kind", ["zero", "clipped", "constant", "one click", "empty", "lowest"])
@pytest.mark.parametrize("frames", [1, 20])
def test_no_sound_makes_a_feature_that_is_no_number(kind: str, frames: int) -> None:
    sound = np.zeros(frames * 640, np.int16)
    if kind == "clipped":
        sound[:] = np.where(np.arange(len(sound)) % 100 < 50, 32767, -32768)
    elif kind == "constant":
        sound[:] = 32767
    elif kind == "lowest":
        sound[:] = -32768
    elif kind == "one click":
        sound[len(sound) // 2] = -32768
    elif kind == "empty":
        sound = sound[:0]
    with np.errstate(all="raise", under="ignore"):
        features = speech_features(sound, frames)
        cepstra = mfcc(sound, 4 * frames)
    assert features.shape == (frames, 20, 80) and np.isfinite(features).all() and np.abs(features).max() < 8
    assert np.isfinite(cepstra.astype(np.float16)).all()
