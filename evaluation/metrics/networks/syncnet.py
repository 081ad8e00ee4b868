"""SyncNet as its authors published it: five frames and a fifth of a second of sound, 1024 numbers each.

Everything that affects the scores follows the published procedure: 25 frames a second of 224 x 224, written as JPEG by
FFmpeg's encoder with its defaults and read back as BGR, 0 … 255 and not normalised; sound as 16 kHz, 16 bit, mono; MFCC
of 25 ms every 10 ms, 13 coefficients; window t takes frames t … t + 4 and cepstra 4t … 4t + 19, for
t < min(frames, samples / 640) − 5; embeddings are not normalised. On the authors' example.avi it must give offset 3,
distance 5.353 and confidence 10.021.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import av
import cv2
import numpy as np
import torch
from torch import Tensor, nn

from common.errors import CorruptFileError
from common.weights import registry as weights
from evaluation.metrics.arrays import Audio, Floats, Frame, Frames, Values
from evaluation.metrics.networks.sync_scores import ShiftDistances
from preparation.crops.active_speaker import CEPSTRA, mfcc
from preparation.media.rates import AUDIO_RATE_HZ, FPS, SAMPLES_PER_FRAME
from training.model.device import choose_device

WEIGHT = "syncnet"
SIZE = 224
WINDOW, STEPS, STEPS_PER_FRAME = 5, 20, 4
BATCH = 20
JPEG_BITS_PER_SECOND = 200_000
"""FFmpeg's default bit rate for every encoder, as `ffmpeg -i clip %06d.jpg` uses it."""


class SyncNet:
    """The published network; clips may have any length, of which 20 windows are in memory at a time."""

    def __init__(self, network: SyncNetwork, device: torch.device) -> None:
        self._network = network.eval().requires_grad_(False).to(device)
        self._device = device

    @classmethod
    def load(cls, device: str = "auto") -> SyncNet:
        """Read the registered weights; MissingWeightError where the file is absent."""
        path = weights.find(WEIGHT)
        network = SyncNetwork()
        try:
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
        except (RuntimeError, KeyError) as error:
            raise CorruptFileError(f"{path} does not hold SyncNet: {error}", remedy="replace the file") from error
        return cls(network, choose_device(device))

    @property
    def fingerprint(self) -> str:
        return f"syncnet {weights.REGISTRY[WEIGHT].sha256} {JPEG_BITS_PER_SECOND}"

    def mean_distances(self, frames: Iterable[Frame], audio: Audio) -> Values:
        """Mean distance at each of 31 shifts, for `sync_score`: frames uint8 [H, W, 3] RGB at 25 fps, sound [S].

        Raises ValueError where there are fewer than six frames with sound.
        """
        cepstra = cepstra_of(audio)
        windows = _windows(as_published(frames), len(audio) // SAMPLES_PER_FRAME - WINDOW)
        distances, start = ShiftDistances(), 0
        while held := list(islice(windows, BATCH)):
            places = range(start, start + len(held))
            sound = np.stack([cepstra[STEPS_PER_FRAME * t : STEPS_PER_FRAME * t + STEPS].T for t in places])
            distances.add(*self.embed(np.stack(held), sound))
            start += len(held)
        return distances.means()

    @torch.no_grad()
    def embed(self, windows: Frames, cepstra: Floats) -> tuple[Floats, Floats]:
        """Windows uint8 [B, 5, 224, 224, 3] BGR and cepstra [B, 13, 20] to embeddings [B, 1024] each."""
        pictures = torch.from_numpy(windows).to(self._device).permute(0, 4, 1, 2, 3).float()
        sound = torch.from_numpy(cepstra)[:, None].to(self._device)
        return self._network.see(pictures).cpu().numpy(), self._network.hear(sound).cpu().numpy()


def cepstra_of(audio: Audio) -> Floats:
    """`python_speech_features.mfcc` with its defaults: float32 [1 + ⌈(S − 400) / 160⌉, 13]."""
    window, hop = AUDIO_RATE_HZ // 40, AUDIO_RATE_HZ // 100
    return mfcc(audio, 1 + max(0, -(-(len(audio) - window) // hop)))


def as_published(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Frames uint8 [H, W, 3] RGB as the procedure reads them: [224, 224, 3] BGR, through FFmpeg's JPEG.

    FFmpeg's encoder keeps a bit rate over the clip, so a frame's JPEG depends on the frames before it: every clip needs
    an encoder of its own.
    """
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.width = encoder.height = SIZE
    encoder.pix_fmt, encoder.framerate, encoder.thread_count = "yuvj420p", FPS, 1
    encoder.bit_rate = JPEG_BITS_PER_SECOND
    for index, frame in enumerate(frames):
        if frame.shape[:2] != (SIZE, SIZE):
            frame = cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        picture = av.VideoFrame.from_ndarray(_planes(frame), format="yuvj420p")
        picture.pts = index
        yield from map(_decoded, encoder.encode(picture))
    yield from map(_decoded, encoder.encode(None))


def _planes(frame: Frame) -> Frame:
    """A frame's JFIF colour planes with halved chroma, uint8 [1.5 H, W]; values are rounded, where swscale's default
    truncates."""
    luma, red, blue = cv2.split(cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb))
    halves = [cv2.resize(plane, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for plane in (blue, red)]
    return np.concatenate([luma, *(half.reshape(-1, SIZE) for half in halves)])


def _decoded(packet: Any) -> Frame:
    picture = cv2.imdecode(np.frombuffer(bytes(packet), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None, "FFmpeg's JPEG cannot be read back"
    return np.asarray(picture, np.uint8)


def _windows(frames: Iterable[Frame], limit: int) -> Iterator[Frames]:
    """Windows of five frames, [5, H, W, 3]; window t exists only where frame t + 5 does and t < limit."""
    held: deque[Frame] = deque(maxlen=WINDOW + 1)
    for index, frame in enumerate(frames):
        held.append(frame)
        if WINDOW <= index < limit + WINDOW:
            yield np.stack(list(held)[:WINDOW])


class SyncNetwork(nn.Module):
    """Two streams of 13.6 million parameters; modules are named as in the published state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_layer(1, 64, (3, 3), padding=1), nn.MaxPool2d(1, 1),
            *_layer(64, 192, (3, 3), padding=1), nn.MaxPool2d(3, (1, 2)),
            *_layer(192, 384, (3, 3), padding=1),
            *_layer(384, 256, (3, 3), padding=1),
            *_layer(256, 256, (3, 3), padding=1), nn.MaxPool2d(3, 2),
            *_layer(256, 512, (5, 4)),
        )  # fmt: skip
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = nn.Sequential(
            *_layer(3, 96, (5, 7, 7), (1, 2, 2)), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_layer(96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1)), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_layer(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *_layer(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *_layer(256, 256, (1, 3, 3), padding=(0, 1, 1)), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_layer(256, 512, (1, 6, 6)),
        )  # fmt: skip

    def see(self, windows: Tensor) -> Tensor:
        """Embeddings [B, 1024] of windows [B, 3, 5, 224, 224], BGR, 0 … 255."""
        return self.netfclip(self.netcnnlip(windows).flatten(1))

    def hear(self, cepstra: Tensor) -> Tensor:
        """Embeddings [B, 1024] of cepstra [B, 1, 13, 20]."""
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))


def _layer(
    inputs: int,
    outputs: int,
    kernel: tuple[int, ...],
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
) -> list[nn.Module]:
    convolution: Any = nn.Conv3d if len(kernel) == 3 else nn.Conv2d
    norm: type[nn.Module] = nn.BatchNorm3d if len(kernel) == 3 else nn.BatchNorm2d
    return [convolution(inputs, outputs, kernel, stride, padding), norm(outputs), nn.ReLU()]


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


assert CEPSTRA == 13, "SyncNet hears 13 cepstra"
