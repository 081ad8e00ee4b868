"""Do these lips speak this sound? A pretrained active-speaker network (Light-ASD) gives a logit per video frame.

Liao, Duan, Feng, Zhao, Yang and Chen, "A Light Weight Model for Active Speaker Detection", CVPR 2023: two light
encoders, whose convolutions are split into one over the picture (or the cepstrum) and one over time, a sum, and a
gated recurrent network forth and back (sections 3.2 and 3.3). The file's two further layers (`lossV`) only serve
training.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct
from torch import Tensor, nn

from common.errors import CorruptFileError, PrivFedTalkError
from common.weights import registry as weights
from preparation.media.rates import AUDIO_RATE_HZ
from preparation.media.track.frames import Frame

WEIGHT = "light_asd"
FACE_SIZE = 112
CEPSTRA = 13
STEPS_PER_FRAME = 4
CHANNELS = 128

VIEW_CENTRE, VIEW_HALF = (0.50, 0.66), 0.32
"""The square of an aligned crop that the network sees, as fractions of the crop: eyes to chin, about the middle half of
its authors' face track. The half side is a compromise found on real clips: contrast with moved sound is largest around
0.34, the logits come nearest to those of the authors' framing at 0.30."""

_GREY_MEAN, _GREY_DEVIATION = 0.4161, 0.1688
_BLOCK_FRAMES = 50
_REACH = 6
"""Frames to either side that a frame's picture code depends on: three blocks with five taps each over time."""


class ActiveSpeaker:
    """The pretrained network in evaluation mode. Load it once for each process."""

    def __init__(self, network: LightASD, device: torch.device) -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self._device = device

    @classmethod
    def load(cls, device: str | torch.device = "cpu") -> ActiveSpeaker:
        """Read the registered weights; MissingWeightError where the file is absent."""
        path = weights.find(WEIGHT)
        network = LightASD()
        try:
            network.load_state_dict(own_names(torch.load(path, map_location="cpu", weights_only=True)), strict=True)
        except (RuntimeError, KeyError) as error:
            raise CorruptFileError(f"{path} does not hold Light-ASD: {error}", remedy="replace the file") from error
        return cls(network, torch.device(device))

    def logits(self, faces: NDArray[np.uint8], audio: NDArray[np.int16]) -> NDArray[np.float32]:
        """Speaking logit of each frame: float32 [T]; above zero the network finds speaking likelier than not.

        faces: uint8 [T, 112, 112] grey at 25 fps, see `view`. audio: int16 [S], 16 kHz mono, from the first frame on.
        """
        seen, heard = self.encode(faces, audio)
        return self.fuse(seen[None], heard[None])[0]

    def offset_scan(self, faces: NDArray[np.uint8], audio: NDArray[np.int16], limit: int = 15) -> NDArray[np.float32]:
        """Mean logit with the sound moved by -limit ... limit frames: float32 [2 limit + 1].

        At index limit + k, frame f is heard with the sound of frame f + k, so a peak at k > 0 means that the sound is
        late. All shifts use the same frames, those that have sound at every shift.
        """
        if len(faces) <= 2 * limit:
            raise PrivFedTalkError(
                f"{len(faces)} frames are too few to move the sound by {limit} either way",
                remedy=f"give more than {2 * limit} frames or a smaller limit",
            )
        return self.scan(*self.encode(faces, audio), limit)

    @torch.no_grad()
    def encode(self, faces: NDArray[np.uint8], audio: NDArray[np.int16]) -> tuple[Tensor, Tensor]:
        """Codes of picture and sound, float32 [T, 128] each. Long clips pass in blocks, with the same result."""
        count = len(faces)
        if faces.dtype != np.uint8 or faces.shape[1:] != (FACE_SIZE, FACE_SIZE) or count == 0:
            raise ValueError(f"faces are uint8 [T, {FACE_SIZE}, {FACE_SIZE}], not {faces.dtype} {faces.shape}")
        seen = []
        for start in range(0, count, _BLOCK_FRAMES):
            stop = min(start + _BLOCK_FRAMES, count)
            first, last = max(start - _REACH, 0), min(stop + _REACH, count)
            codes = self.network.see(torch.from_numpy(faces[first:last].copy()).to(self._device)[None])[0]
            seen.append(codes[start - first : stop - first])
        cepstra = torch.from_numpy(mfcc(audio, count * STEPS_PER_FRAME)).to(self._device)
        return torch.cat(seen), self.network.hear(cepstra[None])[0]

    @torch.no_grad()
    def fuse(self, seen: Tensor, heard: Tensor) -> NDArray[np.float32]:
        """Logits float32 [B, T] of codes [B, T, 128]."""
        return self.network.fuse(seen, heard).cpu().numpy()

    def rolled(self, seen: Tensor, heard: Tensor, rolls: list[int]) -> list[float]:
        """Mean logit with the sound's codes [T, 128] rolled round by each number of frames."""
        moved = torch.stack([heard.roll(frames, 0) for frames in rolls])
        return [float(mean) for mean in self.fuse(seen.expand(len(rolls), -1, -1), moved).mean(1)]

    def scan(self, seen: Tensor, heard: Tensor, limit: int) -> NDArray[np.float32]:
        """As `offset_scan`, from codes [T, 128]: the sound's codes are shifted instead of the sound."""
        length = len(seen) - 2 * limit
        shifted = torch.stack([heard[place : place + length] for place in range(2 * limit + 1)])
        return self.fuse(seen[limit : limit + length].expand(2 * limit + 1, -1, -1), shifted).mean(1)


def view(crop: Frame) -> NDArray[np.uint8]:
    """The network's view of an aligned crop uint8 [S, S, 3]: grey uint8 [112, 112], from the eyes to the chin."""
    size = crop.shape[0]
    scale = FACE_SIZE / (2 * VIEW_HALF * size)
    # Pixel centres: the view's pixel x + 0.5 is scale * (the crop's x + 0.5 - corner).
    corner = [(centre - VIEW_HALF) * size for centre in VIEW_CENTRE]
    matrix = np.array([[scale, 0, 0], [0, scale, 0]])
    matrix[:, 2] = [scale * (0.5 - place) - 0.5 for place in corner]
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    if scale < 0.5:
        grey = cv2.GaussianBlur(grey, (0, 0), 0.4 / scale)
    return cv2.warpAffine(grey, matrix, (FACE_SIZE, FACE_SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def mfcc(audio: NDArray[np.int16], steps: int) -> NDArray[np.float32]:
    """Cepstra as in the network's training: float32 [steps, 13], 100 a second, step j starting with sample 160 j.

    Windows of 25 ms without taper, pre-emphasis 0.97, 26 mel bands up to 8 kHz of a 512-point power spectrum, an
    orthonormal cosine transform liftered by 22, the first coefficient replaced by the logarithm of the energy
    (Davis and Mermelstein 1980, with the HTK lifter). The scale is that of 16-bit samples; missing sound is silence.
    """
    window, hop, points = AUDIO_RATE_HZ // 40, AUDIO_RATE_HZ // 100, 512
    signal = np.zeros(steps * hop + window, dtype=np.float64)
    kept = audio[: len(signal)].astype(np.float64)
    signal[: len(kept)] = np.append(kept[:1], kept[1:] - 0.97 * kept[:-1])
    windows = np.lib.stride_tricks.sliding_window_view(signal, window)[::hop][:steps]
    power = np.abs(np.fft.rfft(windows, points, axis=1)) ** 2 / points
    tiny = np.finfo(float).eps
    energy, bands = power.sum(1), power @ _mel_bands(points).T
    cepstra = dct(np.log(np.where(bands == 0, tiny, bands)), type=2, axis=1, norm="ortho")[:, :CEPSTRA]
    cepstra *= 1 + 11 * np.sin(np.pi * np.arange(CEPSTRA) / 22)
    cepstra[:, 0] = np.log(np.where(energy == 0, tiny, energy))
    return cepstra.astype(np.float32)


@lru_cache(maxsize=1)
def _mel_bands(points: int, count: int = 26) -> NDArray[np.float64]:
    """Triangles of height one, their corners on whole bins: float64 [26, points / 2 + 1]."""
    top = 2595 * np.log10(1 + AUDIO_RATE_HZ / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, count + 2) / 2595) - 1)
    corners = np.floor((points + 1) * hertz / AUDIO_RATE_HZ)
    left, middle, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.arange(points // 2 + 1)[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
    bands = np.where((bins >= left) & (bins < middle), rising, 0)
    return np.where((bins >= middle) & (bins < right), falling, bands)


class LightASD(nn.Module):
    """The network of figure 2 of the paper: 1.0 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.ModuleList([_Block(1, 32, 3, stride=2), _Block(32, 64, 3), _Block(64, 128, 3)])
        self.audio = nn.ModuleList([_Block(1, 32, 2), _Block(32, 64, 2), _Block(64, 128, 2)])
        self.forth = nn.GRU(CHANNELS, CHANNELS, batch_first=True)
        self.back = nn.GRU(CHANNELS, CHANNELS, batch_first=True)
        self.head = nn.Linear(CHANNELS, 2)

    def see(self, faces: Tensor) -> Tensor:
        """Grey faces [B, T, 112, 112], 0-255, to codes [B, T, 128]."""
        x = ((faces.to(self.head.weight.dtype) / 255 - _GREY_MEAN) / _GREY_DEVIATION)[:, None]
        for number, block in enumerate(self.visual):
            if number:
                x = nn.functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
            x = block(x)
        return x.amax((3, 4)).transpose(1, 2)

    def hear(self, cepstra: Tensor) -> Tensor:
        """Cepstra [B, 4 T, 13] to codes [B, T, 128]: time is halved twice."""
        x = cepstra[:, None].transpose(2, 3)
        for number, block in enumerate(self.audio):
            if number:
                x = nn.functional.max_pool2d(x, (1, 3), (1, 2), (0, 1))
            x = block(x)
        return x.mean(2).transpose(1, 2)

    def fuse(self, seen: Tensor, heard: Tensor) -> Tensor:
        """Codes [B, T, 128] to speaking logits [B, T]; the second recurrence runs back over the first's output."""
        x = nn.functional.gelu(self.forth(seen + heard)[0])
        x = nn.functional.gelu(self.back(x.flip(1))[0].flip(1))
        return self.head(x)[..., 1]


class _Block(nn.Module):
    """Two paths of 3 and of 5 taps, each first across the picture (or cepstrum) and then along time; summed, mixed.

    Time is the first axis of a picture sequence (`axes` 3) and the last of a cepstrum sequence (`axes` 2).
    """

    def __init__(self, inputs: int, outputs: int, axes: int, stride: int = 1) -> None:
        super().__init__()
        self.narrow = _path(inputs, outputs, axes, 3, stride)
        self.wide = _path(inputs, outputs, axes, 5, stride)
        self.mix = nn.Sequential(*_layer(outputs, outputs, (1,) * axes))

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.narrow(x) + self.wide(x))


def _path(inputs: int, outputs: int, axes: int, taps: int, stride: int) -> nn.Sequential:
    across, along = ((1, taps, taps), (taps, 1, 1)) if axes == 3 else ((taps, 1), (1, taps))
    return nn.Sequential(*_layer(inputs, outputs, across, stride), *_layer(outputs, outputs, along))


def _layer(inputs: int, outputs: int, kernel: tuple[int, ...], stride: int = 1) -> list[nn.Module]:
    strides = tuple(stride if taps > 1 else 1 for taps in kernel)
    padding = tuple(taps // 2 for taps in kernel)
    convolution: type[nn.Module] = nn.Conv3d if len(kernel) == 3 else nn.Conv2d
    norm: type[nn.Module] = nn.BatchNorm3d if len(kernel) == 3 else nn.BatchNorm2d
    return [convolution(inputs, outputs, kernel, strides, padding, bias=False), norm(outputs, eps=1e-3), nn.ReLU()]


_PARTS = {
    "visualEncoder": "visual",
    "audioEncoder": "audio",
    "block1": "0",
    "block2": "1",
    "block3": "2",
    "gru_forward": "forth",
    "gru_backward": "back",
    "last": "mix.0",
    "bn_last": "mix.1",
    **{
        f"{norm}{axis}_{taps}": f"{path}.{place + (norm != '')}"
        for taps, path in ((3, "narrow"), (5, "wide"))
        for axis, place in (("s", 0), ("m", 0), ("t", 3))
        for norm in ("", "bn_")
    },
}
"""The published file's names of layers, and this module's names for them, part by part of a name."""


def own_names(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published state dict under this module's names, without what only served training."""
    own = {}
    for name, tensor in published.items():
        if name.startswith("lossV."):
            continue
        name = name.removeprefix("model.").removeprefix("GRU.").replace("lossAV.FC.", "head.")
        own[".".join(_PARTS.get(part, part) for part in name.split("."))] = tensor
    return own
