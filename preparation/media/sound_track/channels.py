"""How channels become mono: all of them mixed, or the loudest alone where the mix would lose the voice.

A balanced microphone stored as stereo (right = −left) cancels in a mix; a pair with one dead channel loses half its
amplitude.
"""

from __future__ import annotations

import ctypes
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

KEPT = 0.05
"""A mix with less than this share of the loudest channel's energy has lost the voice. Two unrelated channels keep half
of it, and a lone centre channel in 5.1 keeps a twelfth."""

DEAD = 1e-4
"""A channel with less than this share of the energy of the other in its pair (40 dB) is crosstalk."""

_PLANES = 8
"""With as many planes as this or more, PyAV's list of a frame's planes runs past their pointers, and the process dies
(18.1: it counts up to the first null, which FFmpeg's arrays hold only where they are not full)."""

_NUMPY_KNOWS = frozenset({"dbl", "dblp", "flt", "fltp", "s16", "s16p", "s32", "s32p", "u8", "u8p"})


def keep_layout(frame: Any) -> None:
    """Let a frame's layout never end where it may hold a channel map of its own: 50 bytes a frame.

    PyAV (17.1 to 18.1) frees this map together with the layout, although it is the frame's, and the process dies.
    """
    if "(" in frame.layout.name or "ambisonic" in frame.layout.name:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(frame.layout))


def values(frame: Any) -> NDArray[Any]:
    """The samples of a frame as they are stored: [channels, S]."""
    known = frame.format.name in _NUMPY_KNOWS
    if not known or (frame.format.is_planar and frame.layout.nb_channels >= _PLANES):
        interleaved = frame.format.packed.name if known else "dbl"
        resampler = av.AudioResampler(format=interleaved, layout=frame.layout.name, rate=frame.sample_rate)
        frame = resampler.resample(frame)[0]
    samples = frame.to_ndarray()
    return samples if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).T


def full_scale(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples of any kind as float32, full scale being 1."""
    if samples.dtype.kind == "f":
        return np.asarray(samples, np.float32)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - np.float32(128)) / np.float32(128)
    return samples.astype(np.float32) / np.float32(-float(np.iinfo(samples.dtype).min))


def one_channel(frame: Any, samples: NDArray[Any]) -> Any:
    """A mono frame from one channel's stored samples [S], with the time and rate of `frame`."""
    kind = {"f8": "dbl", "f4": "flt", "i2": "s16", "i4": "s32", "u1": "u8"}[samples.dtype.str[1:]]
    mono = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples)[None], format=kind, layout="mono")
    mono.sample_rate, mono.pts, mono.time_base = frame.sample_rate, frame.pts, frame.time_base
    return mono


class Levels:
    """Energies of the channels and of their mix, over all frames of one layout."""

    def __init__(self, layout: Any) -> None:
        self._names = [channel.name for channel in layout.channels]
        self._energy = np.zeros(layout.nb_channels)
        self._mix_energy = 0.0
        self.mixed = True
        """Whether FFmpeg knows how to mix this layout."""

    def frame(self, stored: NDArray[Any], rate_hz: int) -> None:
        """Add a frame's samples [channels, S]; energies are integrals of squares over time, full scale being 1."""
        samples = full_scale(stored)
        energy = np.einsum("cs,cs->c", samples, samples) / rate_hz
        self._energy += energy
        if len(samples) == 2:
            self._mix_energy += float(energy.sum() + 2 * np.dot(*samples) / rate_hz) / 4

    def mix(self, sound: NDArray[np.int16], rate_hz: int) -> None:
        """Add FFmpeg's mix of the frames, for more than two channels; of two the mix is their mean."""
        if len(self._energy) > 2:
            self._mix_energy += float(np.square(sound / 32768).sum()) / rate_hz

    def chosen(self) -> int | None:
        """The number of the channel to take alone; None where all are mixed."""
        energy = self._energy.copy()
        if len(energy) > 2:
            energy[[name.startswith("LFE") for name in self._names]] = 0.0
        loudest = int(energy.argmax())
        if energy[loudest] == 0:
            return None if self.mixed else 0
        dead = len(energy) == 2 and energy.min() < DEAD * energy[loudest]
        return loudest if not self.mixed or dead or self._mix_energy < KEPT * energy[loudest] else None

    def name(self, channel: int) -> str:
        """The channel's name in words: `right`, or `channel 7` where the container does not name it."""
        if len(self._names) == 2:
            return ("left", "right")[channel]
        return {"FL": "left", "FR": "right", "FC": "centre"}.get(self._names[channel], f"channel {channel + 1}")
