"""Two small frozen networks that measure faces: how far a mouth is open, and whose face it is.

Both are trained on real crops of the *public* split only, never on clients and never on generated frames, and the name
of every figure they give says so. They expect the aligned crop of the preparation floor, where the mouth lies in the
same place in every frame. They are differentiable, so that the identity term of the local objective (eq. 9) can use
the network that the evaluation reports.

When to choose them: on the rendered corpus, or where no pretrained embedder is available. On real faces prefer a
published embedder; these are trained on a few dozen people.
"""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn

from common.errors import CorruptFileError, PrivFedTalkError
from common.folders import NETWORK_WEIGHTS
from common.progress import track
from common.settings import Settings
from training.model.device import at_least_float32, autocast, deterministic
from training.model.frozen.augmentation import photometric, sample_region, soften
from training.model.halves import Loss, Part, generator_of, open_gradients, picked
from training.model.saving import save_network

OPENING_RULER = "opening ruler (trained on public split)"
IDENTITY_RULER = "identity ruler (trained on public split)"

Frames = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

MEASURE_BATCH = 256


class OpeningRulerSettings(Settings):
    """How the mouth-opening ruler is trained."""

    steps: int = Field(360, ge=1)
    batch: int = Field(64, ge=2)
    learning_rate: float = Field(3e-3, gt=0)
    stretch: float = Field(2.2, ge=1, description="mouths are stretched up to this factor, their label with them")
    shift: float = Field(0.04, ge=0, description="random shift of the region, fraction of the crop")
    photometric: float = Field(0.35, ge=0)


class IdentityRulerSettings(Settings):
    """How the identity ruler is trained: a classifier over public speakers with a margin on the angle."""

    steps: int = Field(360, ge=1)
    batch: int = Field(64, ge=2)
    learning_rate: float = Field(3e-3, gt=0)
    embedding: int = Field(96, ge=2)
    scale: float = Field(20.0, gt=0, description="s of ArcFace")
    margin: float = Field(0.3, ge=0, description="m of ArcFace, radians")
    shift: float = Field(0.05, ge=0)
    zoom: float = Field(0.08, ge=0, lt=1)
    photometric: float = Field(0.2, ge=0)


class _Ruler(nn.Module):
    """Saving, loading and batched measuring, the same for both rulers."""

    kind: ClassVar[str]
    in_config: ClassVar[tuple[str, ...]]

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`."""
        config = {"kind": self.kind} | {name: getattr(self, name) for name in self.in_config}
        save_network(self, folder, json.dumps(config, indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the network comes back frozen and in evaluation mode."""
        path = folder / "config.json"
        if not path.exists():
            raise PrivFedTalkError(f"no ruler at {folder}", remedy="train the rulers first")
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("kind", None) != cls.kind:
            raise CorruptFileError(f"{path} is not an {cls.kind}", remedy="name the folder of the right ruler")
        ruler = cls(**config)
        ruler.load_state_dict(load_file(folder / NETWORK_WEIGHTS))
        return ruler.frozen()

    def frozen(self) -> Self:
        return self.eval().requires_grad_(False)

    @torch.no_grad()
    def measure(self, frames: Frames) -> Floats:
        """Run the network over frames uint8 [T, H, W, 3] in bounded batches; float32 [T, ...]."""
        device = next(self.parameters()).device
        batches = [
            self(to_unit(frames[start : start + MEASURE_BATCH]).to(device)).float().cpu().numpy()
            for start in range(0, len(frames), MEASURE_BATCH)
        ]
        return np.concatenate(batches)


class OpeningRuler(_Ruler):
    """Crop -> mouth opening (inner-lip gap over inter-ocular distance), from the lower face only."""

    kind = OPENING_RULER
    in_config = ("width", "scale")

    # (left, top, right, bottom) as fractions of the aligned crop: with eyes at 0.40 this is nose to chin.
    REGION: ClassVar[tuple[float, float, float, float]] = (0.20, 0.48, 0.80, 1.0)
    SIZE: ClassVar[tuple[int, int]] = (64, 64)

    def __init__(self, width: int = 16, scale: float = 1.0) -> None:
        super().__init__()
        self.width = width
        self.scale = scale  # deviation of the training labels, by which the output is multiplied
        self.features = _convolutions([3, width, 2 * width, 4 * width, 4 * width])
        self.head = nn.Sequential(nn.Linear(4 * width * 16, 64), nn.GELU(), nn.Linear(64, 1))

    def forward(self, crops: Tensor) -> Tensor:
        """Crops float [B, 3, H, W] in [0, 1] -> opening float [B]; differentiable."""
        return self.from_region(sample_region(crops, self.REGION, self.SIZE))

    def from_region(self, region: Tensor) -> Tensor:
        """Lower faces float [B, 3, 64, 64] in [0, 1] -> opening float [B]."""
        hidden = self.features(standardise(region)).flatten(1)
        return at_least_float32(self.head(hidden).squeeze(1)) * self.scale

    def opening(self, frames: Frames) -> Floats:
        """Frames uint8 [T, H, W, 3] -> opening float32 [T]."""
        return self.measure(frames)


class IdentityRuler(_Ruler):
    """Crop -> unit embedding; the cosine of two embeddings says how alike two faces are."""

    kind = IDENTITY_RULER
    in_config = ("width", "embedding")

    REGION: ClassVar[tuple[float, float, float, float]] = (0.0, 0.0, 1.0, 1.0)
    SIZE: ClassVar[tuple[int, int]] = (64, 64)

    centre: Tensor

    def __init__(self, width: int = 24, embedding: int = 96) -> None:
        super().__init__()
        self.width = width
        self.embedding = embedding
        self.features = _convolutions([3, width, 2 * width, 4 * width, 4 * width])
        self.head = nn.Linear(4 * width * 16, embedding)
        self.register_buffer("centre", torch.zeros(embedding))

    def forward(self, crops: Tensor) -> Tensor:
        """Crops float [B, 3, H, W] in [0, 1] -> unit embeddings float [B, D]; differentiable."""
        return F.normalize(self.from_region(sample_region(crops, self.REGION, self.SIZE)) - self.centre, dim=1)

    def from_region(self, region: Tensor) -> Tensor:
        """Faces float [B, 3, 64, 64] in [0, 1] -> unit embeddings float [B, D] before centring."""
        return F.normalize(at_least_float32(self.head(self.features(standardise(region)).flatten(1))), dim=1)

    def embed(self, frames: Frames) -> Floats:
        """Frames uint8 [T, H, W, 3] -> unit embeddings float32 [T, D]."""
        return self.measure(frames)


def to_unit(frames: Frames) -> Tensor:
    """Frames uint8 [B, H, W, 3] -> float32 [B, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255


def standardise(region: Tensor) -> Tensor:
    """Each picture with zero mean and unit deviation over all channels, which removes exposure but keeps colour."""
    mean = region.mean(dim=(1, 2, 3), keepdim=True)
    spread = region.std(dim=(1, 2, 3), keepdim=True)
    return (region - mean) / (spread + 1e-3)


def train_opening_ruler(
    frames: Frames,
    openings: Floats,
    settings: OpeningRulerSettings | None = None,
    seed: int = 0,
    workers: int = 1,
) -> OpeningRuler:
    """Regress the opening from public crops uint8 [N, H, W, 3] with true openings float [N].

    Clients may open their mouths wider than anybody in the public split. A vertical stretch by s makes the gap s times
    as large, so stretched pictures with stretched labels extend the range of the training data.
    """
    settings = settings or OpeningRulerSettings()
    _check(frames, len(openings), "openings")
    if not np.isfinite(openings).all():
        raise PrivFedTalkError("mouth openings hold NaN or infinity", remedy="train on clips with known openings")
    labels = np.asarray(openings, np.float32)
    with deterministic(seed):
        ruler = OpeningRuler(scale=float(torch.from_numpy(labels).std()) + 1e-6)
    _fit(ruler, partial(_opening_loss, settings), frames, labels, settings, seed, "opening ruler", workers)
    return ruler.frozen()


def _opening_loss(settings: OpeningRulerSettings, ruler: nn.Module, part: Part) -> Tensor:
    """How far the measured openings of changed pictures are from theirs."""
    assert isinstance(ruler, OpeningRuler)
    frames, labels, generator = part["frames"], torch.from_numpy(part["labels"]), generator_of(part)
    # Half of the stretches are exactly 1: the range that matters most stays the best learned.
    stretch = 1 + (settings.stretch - 1) * torch.rand(len(frames), generator=generator)
    stretch = torch.where(torch.rand(len(frames), generator=generator) < 0.5, 1.0, stretch)
    region = sample_region(
        to_unit(frames), ruler.REGION, ruler.SIZE, shift=settings.shift, stretch=stretch, generator=generator
    )
    region = soften(photometric(region, settings.photometric, generator), generator)
    predicted = ruler.from_region(region) / ruler.scale
    return F.smooth_l1_loss(predicted, labels * stretch / ruler.scale, beta=0.5)


def train_identity_ruler(
    frames: Frames,
    speaker_labels: list[str] | npt.NDArray[Any],
    settings: IdentityRulerSettings | None = None,
    seed: int = 0,
    workers: int = 1,
) -> IdentityRuler:
    """Learn embeddings from public crops uint8 [N, H, W, 3] and each one's speaker, with ArcFace's margin.

    ArcFace (Deng et al. 2019, eq. 3): softmax over s·cos(θ_j), where the true class has s·cos(θ + m) instead.
    """
    settings = settings or IdentityRulerSettings()
    _check(frames, len(speaker_labels), "speaker labels")
    speakers, classes = np.unique(np.asarray(speaker_labels), return_inverse=True)
    if len(speakers) < 2:
        raise PrivFedTalkError(f"only speaker {speakers[0]} to learn identity from", remedy="add public speakers")
    with deterministic(seed):
        classifier = _Classifier(IdentityRuler(embedding=settings.embedding), len(speakers))
    loss = partial(_identity_loss, settings)
    _fit(classifier, loss, frames, classes.astype(np.int64), settings, seed, "identity ruler", workers)
    ruler = classifier.ruler.frozen()
    # Subtracting what all faces share makes the cosine of two different people zero on average.
    every = max(1, len(frames) // 2000)
    ruler.centre.copy_(torch.from_numpy(ruler.embed(frames[::every]).mean(axis=0)))
    return ruler


class _Classifier(nn.Module):
    """The identity ruler with a direction for each public speaker [speakers, D], which only training needs."""

    def __init__(self, ruler: IdentityRuler, speakers: int) -> None:
        super().__init__()
        self.ruler = ruler
        self.prototypes = nn.Parameter(torch.randn(speakers, ruler.embedding) * 0.1)


def _identity_loss(settings: IdentityRulerSettings, classifier: nn.Module, part: Part) -> Tensor:
    """The cross-entropy of who changed pictures show."""
    assert isinstance(classifier, _Classifier)
    frames, target, generator = part["frames"], torch.from_numpy(part["labels"]), generator_of(part)
    ruler = classifier.ruler
    zoom = 1 + settings.zoom * (2 * torch.rand(len(frames), generator=generator) - 1)
    region = sample_region(
        to_unit(frames),
        ruler.REGION,
        ruler.SIZE,
        shift=settings.shift,
        stretch=zoom,
        widen=zoom,
        generator=generator,
    )
    region = soften(photometric(region, settings.photometric, generator), generator)
    cosine = ruler.from_region(region) @ F.normalize(classifier.prototypes, dim=1).T
    angle = torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6))
    own = F.one_hot(target, len(classifier.prototypes)).bool()
    logits = settings.scale * torch.where(own, torch.cos(angle + settings.margin), cosine)
    return F.cross_entropy(logits, target)


def _fit(
    model: nn.Module,
    loss_of: Loss,
    frames: Frames,
    labels: npt.NDArray[Any],
    settings: OpeningRulerSettings | IdentityRulerSettings,
    seed: int,
    what: str,
    workers: int,
) -> None:
    """AdamW on random batches with a cosine to zero; everything random follows from the seed."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    with open_gradients(model, partial(_autocast_loss, loss_of), workers) as gradients:
        for step in track(range(settings.steps), f"training the {what}", unit="steps"):
            batch = torch.randint(0, len(frames), (settings.batch,), generator=generator).numpy()
            loss = gradients(len(batch), picked(batch, (seed, step), frames=frames, labels=labels))
            if not torch.isfinite(loss):
                raise PrivFedTalkError(f"the {what} diverged at step {step}", remedy="lower its learning rate")
            optimiser.step()
            schedule.step()


def _autocast_loss(loss_of: Loss, model: nn.Module, part: Part) -> Tensor:
    with autocast(torch.device("cpu")):
        return loss_of(model, part)


def _check(frames: Frames, labels: int, what: str) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise PrivFedTalkError(
            f"crops are {frames.dtype} {frames.shape}", remedy="give RGB frames as uint8 [N, H, W, 3]"
        )
    if len(frames) != labels or not labels:
        raise PrivFedTalkError(f"{len(frames)} crops but {labels} {what}", remedy="give one for every crop")


def _convolutions(widths: list[int]) -> nn.Sequential:
    """3×3 convolutions, each halving the picture."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(4, outputs), nn.GELU()]
    return nn.Sequential(*layers)
