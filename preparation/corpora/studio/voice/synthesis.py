"""Formant synthesis: a glottal source and noise through a cascade of resonators (after Klatt 1980)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter, sosfilt

from preparation.corpora.studio.voice.articulation import TRACK_HZ, Segment, Utterance

SAMPLE_HZ = 16_000
BLOCK = SAMPLE_HZ // TRACK_HZ
BANDWIDTHS_HZ = (80.0, 100.0, 130.0, 220.0)
FOURTH_FORMANT_HZ = 3500.0
LEVEL = 0.085  # RMS of full scale over the whole clip at unit loudness


@dataclass(frozen=True)
class Voice:
    """What distinguishes a speaker's sound: mean F0 in Hz, vocal tract length relative to the mean, breath and
    brightness in [0, 1], and the depth of the melody in semitones."""

    f0_hz: float
    tract: float
    breath: float
    brightness: float
    melody: float


def speak(rng: np.random.Generator, utterance: Utterance, voice: Voice) -> NDArray[np.int16]:
    """The utterance as sound, int16 [S], 16 kHz mono."""
    samples = round(utterance.seconds * SAMPLE_HZ)
    blocks = -(-samples // BLOCK)
    tracks = _tracks(utterance.segments, blocks)
    source = _glottis(rng, blocks, voice) * _stretch(tracks["voice"])
    hiss = rng.standard_normal(blocks * BLOCK)
    source += 0.10 * voice.breath * hiss * _stretch(tracks["voice"])
    source += 0.25 * hiss * _stretch(tracks["aspiration"])
    sound = _cascade(source, tracks, voice) + _frication(hiss, tracks)
    sound = sound[:samples] + 2e-4 * rng.standard_normal(samples)  # the room
    # One level for everyone would hide loudness; one gain for everyone would clip: normalise the 95th percentile.
    envelope = np.sqrt(gaussian_filter1d(sound**2, 0.01 * SAMPLE_HZ))
    sound *= 2.2 * LEVEL / max(float(np.percentile(envelope, 95)), 1e-6)
    return np.round(np.tanh(sound) * 32767.0).astype(np.int16)


def _tracks(segments: tuple[Segment, ...], blocks: int) -> dict[str, NDArray[np.float64]]:
    """Synthesis parameters per block of 5 ms, smoothed as fast as an articulator can move."""
    times = (np.arange(blocks) + 0.5) / TRACK_HZ
    starts = np.array([s.start for s in segments])
    index = np.clip(np.searchsorted(starts, times, side="right") - 1, 0, None)
    ends = np.array([s.end for s in segments])[index]
    late = ends - times < 0.022  # the release of a stop

    def steps(values: list[float]) -> NDArray[np.float64]:
        return np.asarray(values, np.float64)[index]

    burst = steps([float(s.phoneme.burst) for s in segments]) > 0.5
    noise = steps([s.phoneme.noise * s.stress for s in segments]) * np.where(burst, late * 1.4, 1.0)
    low = steps([s.phoneme.noise_hz for s in segments])
    # Breathy consonants excite the whole tract, sibilants only the front of the mouth.
    aspirated = low < 1700.0
    tracks = {
        "voice": gaussian_filter1d(steps([s.phoneme.voice * s.stress for s in segments]), 2.6),
        "noise": gaussian_filter1d(np.where(aspirated, 0.0, noise), 1.2),
        "aspiration": gaussian_filter1d(np.where(aspirated, noise, 0.0), 1.2),
        "noise_hz": low,
    }
    for number in range(3):
        track = steps([s.phoneme.formants[number] for s in segments])
        tracks[f"f{number + 1}"] = gaussian_filter1d(track, 4.0, mode="nearest")
    return tracks


def _stretch(track: NDArray[np.float64]) -> NDArray[np.float64]:
    """A track of one value a block, interpolated linearly between block centres to the sound's rate."""
    positions = (np.arange(len(track) * BLOCK) + 0.5) / BLOCK - 0.5
    return np.interp(positions, np.arange(len(track)), track)


def _glottis(rng: np.random.Generator, blocks: int, voice: Voice) -> NDArray[np.float64]:
    """Derivative of Rosenberg's glottal flow (1971) with a falling, wandering melody."""
    position = np.arange(blocks) / max(blocks - 1, 1)
    wander = gaussian_filter1d(rng.standard_normal(blocks), 30.0, mode="nearest")
    wander /= np.abs(wander).max() + 1e-9
    jitter = gaussian_filter1d(rng.standard_normal(blocks), 1.0) * 0.08
    semitones = voice.melody * wander + 1.5 - 3.5 * position + jitter
    f0 = _stretch(voice.f0_hz * 2.0 ** (semitones / 12.0))
    phase = np.cumsum(f0 / SAMPLE_HZ) % 1.0
    rise, fall = 0.40, 0.18 + 0.10 * (1.0 - voice.brightness)
    flow = np.where(
        phase < rise,
        0.5 - 0.5 * np.cos(np.pi * phase / rise),
        np.cos(0.5 * np.pi * np.clip((phase - rise) / fall, 0.0, 1.0)),
    )
    return np.diff(flow, prepend=flow[0]) * 6.0


def _cascade(source: NDArray[np.float64], tracks: dict[str, NDArray[np.float64]], voice: Voice) -> NDArray[np.float64]:
    """Four resonators of unit gain at 0 Hz in series, retuned every block with their state kept."""
    blocks = len(tracks["f1"])
    formants = np.stack([tracks["f1"], tracks["f2"], tracks["f3"], np.full(blocks, FOURTH_FORMANT_HZ)], axis=1)
    formants = np.minimum(formants / voice.tract, 7200.0)
    radius = np.exp(-np.pi * np.asarray(BANDWIDTHS_HZ) / SAMPLE_HZ)
    a1 = -2.0 * radius * np.cos(2.0 * np.pi * formants / SAMPLE_HZ)
    a2 = np.broadcast_to(radius**2, a1.shape)
    sections = np.zeros((blocks, 4, 6))
    sections[..., 0] = 1.0 + a1 + a2
    sections[..., 3], sections[..., 4], sections[..., 5] = 1.0, a1, a2
    state = np.zeros((4, 2))
    sound = np.empty_like(source)
    for block in range(blocks):
        span = slice(block * BLOCK, (block + 1) * BLOCK)
        sound[span], state = sosfilt(sections[block], source[span], zi=state)
    return sound


def _frication(hiss: NDArray[np.float64], tracks: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Noise in three fixed bands, each open while its phonemes sound."""
    total = np.zeros_like(hiss)
    for centre_hz, low_hz, high_hz in (
        (2000.0, 1700.0, 2600.0),
        (3200.0, 2600.0, 3700.0),
        (5000.0, 3700.0, 9000.0),
    ):
        chosen = (tracks["noise_hz"] >= low_hz) & (tracks["noise_hz"] < high_hz)
        gain = gaussian_filter1d(tracks["noise"] * chosen, 0.8)
        if gain.max() <= 0.0:
            continue
        radius = np.exp(-np.pi * 900.0 / SAMPLE_HZ)
        poles = [1.0, -2.0 * radius * np.cos(2.0 * np.pi * centre_hz / SAMPLE_HZ), radius**2]
        band = lfilter([1.0 - radius, 0.0, -(1.0 - radius)], poles, hiss)
        total += 1.2 * band * _stretch(gain)
    return total
