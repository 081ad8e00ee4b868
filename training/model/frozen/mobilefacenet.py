"""MobileFaceNet as a differentiable module, with the weights that the identity check runs in onnxruntime.

Chen et al. 2018, table 1, as trained with ArcFace by foamliu/MobileFaceNet: ReLU6 in place of PReLU, a last 1 x 1
convolution with a bias. The modules are named so that its state dict loads strictly.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.weights import registry as weights
from preparation.faces.alignment import fit_similarity
from preparation.faces.embedder import ARCFACE_TEMPLATE, SIZE
from preparation.faces.landmarks import MOUTH_CENTRE
from preparation.settings import CropSettings

WEIGHT = "mobilefacenet"

# Expansion, channels, blocks and first stride of each stage of table 1.
STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class MobileFaceNet(nn.Module):
    """Aligned, normalised faces [B, 3, 112, 112] to embeddings [B, 128] that are not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _convolution(3, 64, 3, stride=2)
        self.dw_conv = _Separable(64)
        blocks, channels = [], 64
        for expansion, width, count, first_stride in STAGES:
            for number in range(count):
                blocks.append(_Bottleneck(channels, width, first_stride if number == 0 else 1, expansion))
                channels = width
        self.features = nn.Sequential(*blocks)
        self.conv2 = _convolution(channels, 512, 1)
        self.gdconv = _Global(512)
        self.conv3 = nn.Conv2d(512, 128, 1)
        self.bn = nn.BatchNorm2d(128)

    def forward(self, faces: Tensor) -> Tensor:
        hidden = self.conv2(self.features(self.dw_conv(self.conv1(faces))))
        return self.bn(self.conv3(self.gdconv(hidden))).flatten(1)


class MobileFaceNetEmbedder(nn.Module):
    """Crops float [B, 3, H, W] in [0, 1] to unit embeddings [B, 128]; differentiable in the crops.

    The identity check aligns every face by its own five landmarks. A crop of the preparation floor is already aligned,
    so one fixed similarity transform maps it to the network's alignment, and generated frames need no landmarks.
    """

    def __init__(self, network: MobileFaceNet, crop: CropSettings | None = None) -> None:
        super().__init__()
        self.network = network
        # Not in the state dict: they are constants, not weights.
        self.register_buffer("grid", face_grid(crop or CropSettings()), persistent=False)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)
        self.grid: Tensor
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, crops: Tensor) -> Tensor:
        return F.normalize(self.network((self.faces(crops) - self.mean) / self.deviation), dim=1)

    def faces(self, crops: Tensor) -> Tensor:
        """The faces, aligned as in the network's training: [B, 3, 112, 112] in [0, 1]."""
        # Bilinear sampling uses every pixel only down to about half the resolution, so larger crops are reduced first.
        if crops.shape[-1] > 2 * SIZE:
            crops = F.interpolate(crops, size=(2 * SIZE, 2 * SIZE), mode="bilinear", antialias=True)
        grid = self.grid.expand(len(crops), -1, -1, -1)
        return F.grid_sample(crops, grid, mode="bilinear", padding_mode="border", align_corners=False)

    @classmethod
    def load(cls) -> MobileFaceNetEmbedder:
        """The network with the registered weights, frozen; raises MissingWeightError if the file is missing."""
        network = MobileFaceNet()
        network.load_state_dict(torch.load(weights.find(WEIGHT), map_location="cpu", weights_only=True))
        return cls(network).eval().requires_grad_(False)


def face_grid(crop: CropSettings) -> Tensor:
    """The position in a crop of each pixel of the 112-pixel face, float32 [1, 112, 112, 2], in [-1, 1] over the crop.

    It is a least-squares fit of the eyes and mouth centre of a mean face in the crop to those of ArcFace's template.
    """
    mean_face = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, MOUTH_CENTRE]])
    here = np.array([0.5, crop.eye_height]) + crop.eye_distance * mean_face
    there = np.stack([*ARCFACE_TEMPLATE[:2], ARCFACE_TEMPLATE[3:].mean(0)])
    # Both in fractions of the picture; a pixel's centre lies half a pixel from its edge.
    face_from_crop = np.vstack([fit_similarity(here[None], (there + 0.5) / SIZE, np.ones(3))[0], [0, 0, 1]])
    crop_from_face = np.linalg.inv(face_from_crop)
    linear, shift = crop_from_face[:2, :2], crop_from_face[:2, 2:]
    # affine_grid counts from -1 to 1 on both sides: u = 2 p - 1.
    theta = torch.from_numpy(np.hstack([linear, linear.sum(1, keepdims=True) + 2 * shift - 1])).float()
    return F.affine_grid(theta[None], [1, 3, SIZE, SIZE], align_corners=False)


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, (size - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class _Separable(nn.Module):
    """A depthwise and a pointwise convolution, each followed by batch normalisation and ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pointwise = nn.Conv2d(width, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.pointwise(F.relu(self.bn1(self.depthwise(x))))))


class _Bottleneck(nn.Module):
    """Expand, filter each channel, reduce; added to the input if the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            _convolution(inputs, hidden, 1),
            _convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class _Global(nn.Module):
    """Global depthwise convolution: one weight for each place and channel of the 7 x 7 map, instead of an average."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, groups=width, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.depthwise(x))
