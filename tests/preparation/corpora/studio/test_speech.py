"""The studio's sentences, voices and mouths: lips follow sound by construction, and measurably."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from preparation.corpora.studio.clip import population_of
from preparation.corpora.studio.head.identity import draw_identity, speaker_seed
from preparation.corpora.studio.motion import FPS
from preparation.corpora.studio.settings import StudioSettings
from preparation.corpora.studio.voice.articulation import TRACK_HZ, articulate, compose_utterance
from preparation.corpora.studio.voice.lexicon import LEXICON
from preparation.corpora.studio.voice.phonemes import DIPHTHONGS, PHONEMES
from preparation.corpora.studio.voice.synthesis import SAMPLE_HZ, speak

SETTINGS = StudioSettings()
SECONDS = 2.0


def _spoken(kind: str, number: int, clip: int) -> tuple[NDArray[np.int16], NDArray[np.floating]]:
    """Sound int16 [S] and opening [T] at the frames of one clip."""
    person = draw_identity(0, kind, number, population_of(kind, SETTINGS))
    rng = speaker_seed(0, kind, number, clip)
    utterance = compose_utterance(rng, SECONDS, person.tempo)
    sound = speak(rng, utterance, person.voice)
    times = np.arange(round(SECONDS * FPS)) / FPS
    return sound, articulate(utterance, person.smoothness_seconds).at(times).opening


def _windows(sound: NDArray[np.int16]) -> NDArray[np.float32]:
    """The contract's speech window: 20 log-mel steps of 80 bands centred on each frame, [T, 1600]."""
    mel = librosa.feature.melspectrogram(
        y=sound.astype(np.float32) / 32768.0, sr=SAMPLE_HZ, n_fft=400, hop_length=160, n_mels=80, fmax=8000.0
    )
    steps = np.pad(np.log(mel + 1e-5).T, ((10, 10), (0, 0)), mode="edge")
    return np.stack([steps[4 * f : 4 * f + 20].ravel() for f in range(round(SECONDS * FPS))])


def test_lexicon_uses_every_phoneme_and_no_unknown_one() -> None:
    used = {phoneme for word in LEXICON.values() for phoneme in word.split()}
    assert used <= PHONEMES.keys() | DIPHTHONGS.keys()
    assert PHONEMES.keys() | DIPHTHONGS.keys() <= used
    assert len(LEXICON) >= 40


def test_silence_at_both_ends_and_words_inside() -> None:
    for number in range(5):
        utterance = compose_utterance(np.random.default_rng(number), SECONDS, 1.0)
        assert utterance.words[0][1] >= 0.1 and utterance.words[-1][2] <= SECONDS - 0.1
        sound = speak(
            np.random.default_rng(number), utterance, draw_identity(0, "public", 0, SETTINGS.public_population).voice
        )
        loud = float(np.sqrt(np.mean(sound.astype(np.float64) ** 2)))
        quiet = float(np.sqrt(np.mean(sound[: SAMPLE_HZ // 20].astype(np.float64) ** 2)))
        assert quiet < 0.05 * loud
        mouth = articulate(utterance, 0.035)
        assert mouth.opening[0] < 0.02 and mouth.opening[-1] < 0.02


def test_bilabials_close_the_lips() -> None:
    shut = 0
    for number in range(6):
        utterance = compose_utterance(np.random.default_rng(number), SECONDS, 1.0)
        mouth = articulate(utterance, 0.044)
        for segment in utterance.segments:
            if segment.phoneme.closure == 1.0:
                middle = round(0.5 * (segment.start + segment.end) * TRACK_HZ)
                assert mouth.opening[middle] < 0.02
                shut += 1
    assert shut >= 5


def test_opening_has_no_lag_behind_the_sound() -> None:
    lags = []
    for number in range(8):
        sound, opening = _spoken("public", number, 0)
        envelope = _energy(sound)
        shifts = range(-3, 4)
        score = [np.corrcoef(np.roll(envelope, shift), opening)[0, 1] for shift in shifts]
        lags.append(shifts[int(np.argmax(score))])
    assert abs(float(np.mean(lags))) <= 0.3


def _energy(sound: NDArray[np.int16]) -> NDArray[np.float64]:
    """Root mean square in 40 ms around each frame's moment, [T]."""
    half = SAMPLE_HZ // 50
    padded = np.pad(sound.astype(np.float64) / 32768.0, half)
    starts = np.arange(round(SECONDS * FPS)) * SAMPLE_HZ // FPS
    return np.array([np.sqrt(np.mean(padded[start : start + 2 * half] ** 2)) for start in starts])


@pytest.mark.parametrize("kind", ["public", "client"])
def test_opening_follows_energy(kind: str) -> None:
    spoken = [_spoken(kind, number, 0) for number in range(10)]
    scores = [np.corrcoef(_energy(sound), opening)[0, 1] for sound, opening in spoken]
    assert np.mean(scores) >= 0.8


@pytest.mark.slow(minutes=0.5)
def test_ridge_regression_hears_the_opening_of_unseen_speakers() -> None:
    train = [_spoken("public", number, 0) for number in range(24)]
    features = np.concatenate([_windows(sound) for sound, _ in train]).astype(np.float64)
    target = np.concatenate([opening for _, opening in train])
    mean, level = features.mean(axis=0), target.mean()
    centred = features - mean
    weights = np.linalg.solve(centred.T @ centred + 3000.0 * np.eye(centred.shape[1]), centred.T @ (target - level))
    scores = []
    for kind, number in [("unseen", n) for n in range(4)] + [("public", n) for n in range(100, 104)]:
        sound, opening = _spoken(kind, number, 0)
        scores.append(np.corrcoef((_windows(sound) - mean) @ weights, opening)[0, 1])
    assert np.mean(scores) >= 0.9
