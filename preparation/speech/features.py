"""Speech features for each video frame: log-mel windows centred on the frame.

Choose `logmel` for small models and speakers of any language; it needs no download. Learned features (wav2vec2,
whisper) are in `preparation.speech.networks` and have the same shape [T, tokens, dim]; `open_speech` returns the
configured ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from preparation.media.rates import AUDIO_RATE_HZ, SAMPLES_PER_FRAME
from preparation.settings import SpeechSettings
from preparation.speech.mel import mel_filters

TOKENS = 20
DIM = 80
N_FFT = 400
HOP = 160
FMAX_HZ = 8000.0

FLOOR = 1e-6
"""Mel power below this counts as silence; full-scale sound is 1."""
MEAN = -9.0
SCALE = 3.5
"""ln(mel + FLOOR) of speech lies around MEAN +- SCALE. The constants are fixed, so that features of two clients can be
compared and no client has to share statistics of its voice."""

MARGIN = 50
"""Frames of sound on either side that a part's features are computed with, so that they equal the whole sound's:
log-mel windows reach 3 frames; networks reach further, with ever less weight."""

SpeechFeatures = Callable[[NDArray[np.int16], int], NDArray[np.float32]]
"""From sound int16 [S] and a number of frames T to float32 [T, tokens, dim]; frame f's tokens are centred on f/25 s."""


def open_speech(settings: SpeechSettings) -> SpeechFeatures:
    """The configured features; a network is loaded once per process."""
    if settings.features == "logmel":
        return speech_features
    from preparation.speech.networks import open_network

    return open_network(settings)


def features_of_part(
    features: SpeechFeatures, audio: NDArray[np.int16], start: int, stop: int, frames: int
) -> NDArray[np.float32]:
    """Features of the frames from `start` to `stop` of a sound of `frames` frames, as computed from the whole sound.

    Only that part with `MARGIN` frames on either side is computed, so memory does not grow with the sound.
    """
    first, last = max(0, start - MARGIN), min(frames, stop + MARGIN)
    sound = audio[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME]
    return features(sound, last - first)[start - first : stop - first]


def speech_features(audio: NDArray[np.int16], frames: int) -> NDArray[np.float32]:
    """Log-mel features for each video frame: float32 [T, 20, 80], about zero mean and unit scale.

    audio: int16 [S], 16 kHz mono, starting with the first video frame; padded with silence where it is
    shorter. The 20 steps of 10 ms lie at f/25 s + (-95, -85, ..., +95) ms: symmetric around frame f.
    """
    # Step j of the whole track is centred on sample 160 j - 1520, so frame f owns the steps 4f ... 4f + 19.
    steps_per_frame = SAMPLES_PER_FRAME // HOP
    steps = steps_per_frame * (frames - 1) + TOKENS
    before = (TOKENS - 1) * HOP // 2 + N_FFT // 2
    needed = (steps - 1) * HOP + N_FFT
    signal = np.zeros(needed, dtype=np.float32)
    kept = audio[: needed - before]
    signal[before : before + len(kept)] = kept.astype(np.float32) / 32768.0
    windows = np.lib.stride_tricks.sliding_window_view(signal, N_FFT)[::HOP]
    power = np.abs(np.fft.rfft(windows * _hann(), axis=1)).astype(np.float32) ** 2
    log_mel = (np.log(power @ _mel_filters().T + FLOOR) - MEAN) / SCALE
    index = steps_per_frame * np.arange(frames)[:, None] + np.arange(TOKENS)[None, :]
    return log_mel[index].astype(np.float32)


@lru_cache(maxsize=1)
def _mel_filters() -> NDArray[np.float32]:
    """float32 [80, 201], Slaney's scale and area normalisation (librosa's default)."""
    return mel_filters(AUDIO_RATE_HZ, N_FFT, DIM, FMAX_HZ)


@lru_cache(maxsize=1)
def _hann() -> NDArray[np.float32]:
    """The periodic Hann window, as in librosa.stft."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)
