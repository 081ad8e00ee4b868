"""The networks that `benchmarks/gpu` measures: backbones with an adapter, autoencoders, metrics; weights are random."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.federation_run import pefts_products
from common.errors import PrivFedTalkError
from common.folders import RunFolder
from preparation.faces.motion import MOTION_DIM
from preparation.shards.store import Sample, write_shards
from training.adapters.adapter import Adapter
from training.federation.client.storage import ClientStorage
from training.federation.client.training import ClientTrainer
from training.federation.methods import configure
from training.federation.methods.base import LocalRule
from training.model.autoencoders.base import Autoencoder
from training.model.autoencoders.diffusers_kind import DiffusersAutoencoder
from training.model.autoencoders.small import SmallVae
from training.model.autoencoders.sources import open_pretrained
from training.model.backbones.inflation import inflate
from training.model.backbones.interface import Backbone, BackboneShape
from training.model.backbones.kinds import build_backbone
from training.model.backbones.sd15 import Sd15Backbone
from training.model.data import Batch, stream_batches
from training.model.frozen.rulers import IdentityRuler
from training.model.objective import Draw
from training.settings import AdapterSettings, BackboneSettings, TrainingSettings, VaeSettings
from training.settings.backbones import BaseSettings

SD_VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 256,
    "scaling_factor": 0.18215,
}
"""The published configuration of sd-vae-ft-mse."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of everything. `batches`: few, some and many windows a step (a window of `sd15` keeps 10 GB)."""

    latent: int = 32
    window: int = 16
    speech_steps: int = 10
    speech_dim: int = 384
    products: tuple[int, ...] = (4096, 8192, 16384)
    copies: tuple[int, ...] = (4096,)
    sd15_batches: tuple[int, int, int] = (2, 4, 6)
    base_batches: tuple[int, int, int] = (4, 8, 20)
    frames: int = 256
    clients: int = 4
    local_steps: int = 10
    tiny: bool = False

    def batches(self, kind: str) -> tuple[int, int, int]:
        return self.sd15_batches if kind == "sd15" else self.base_batches

    @property
    def pixels(self) -> int:
        return 8 * self.latent

    @property
    def shape(self) -> BackboneShape:
        return BackboneShape(
            latent_channels=4,
            latent_size=self.latent,
            speech_steps=self.speech_steps,
            speech_dim=self.speech_dim,
            motion_dim=MOTION_DIM,
        )


TINY = Sizes(
    latent=8,
    window=4,
    speech_steps=2,
    speech_dim=8,
    products=(128,),
    copies=(1,),
    sd15_batches=(1, 2, 3),
    base_batches=(1, 2, 3),
    frames=12,
    clients=2,
    local_steps=2,
    tiny=True,
)
"""Sizes at which the same code takes seconds on a CPU."""


def random_backbone(kind: str, sizes: Sizes) -> Backbone:
    """A backbone of a kind, drawn on torch's default device."""
    settings = BackboneSettings(kind=kind, window=sizes.window)
    if not sizes.tiny:
        return build_backbone(settings, sizes.shape)
    if kind == "sd15":
        flat = UNet2DConditionModel(
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        return Sd15Backbone(settings, sizes.shape, inflate(flat))
    small = settings.model_copy(update={"base": BaseSettings(width=32, depth=2, heads=2)})
    return build_backbone(small, sizes.shape)


def settings_for(sizes: Sizes, targets: str = "attention", **federation: Any) -> TrainingSettings:
    """FedAvg with the paper's adapter: rank 8 on the attention projections."""
    base = TrainingSettings(adapter=AdapterSettings(targets=targets))
    values = {"local_steps": sizes.local_steps, "batch_size": sizes.sd15_batches[1], "rounds": 1, **federation}
    settings = base.model_copy(update={"federation": base.federation.model_copy(update=values)})
    return configure("fedavg", settings)


def random_batch(windows: int, sizes: Sizes, device: torch.device) -> Batch:
    """Windows of random latents, speech and motion, each frame with a mouth."""
    shape = sizes.shape
    frames, side = (windows, sizes.window), sizes.latent
    cells = torch.zeros(*frames, side, side)
    cells[..., side // 2 :, side // 4 : -side // 4] = 1
    return Batch(
        latents=torch.randn(*frames, shape.latent_channels, side, side),
        speech=torch.randn(*frames, shape.speech_steps, shape.speech_dim),
        reference=torch.randn(windows, shape.latent_channels, side, side),
        motion=torch.randn(*frames, shape.motion_dim) * 0.1,
        mouth=cells,
        eyes=cells,
    ).to(device)


@dataclass
class Subject:
    """A backbone with its adapter, and the trainer whose steps are measured."""

    trainer: ClientTrainer
    sizes: Sizes
    parameters: int

    @property
    def adapter(self) -> Adapter:
        return self.trainer.adapter

    @property
    def backbone(self) -> Backbone:
        return self.trainer.backbone

    def stepper(self, windows: int, fused: bool = True) -> Callable[[], object]:
        """A local step as clients take it, on a batch that is on the device already; noise is drawn for every step."""
        trainer, batch = self.trainer, random_batch(windows, self.sizes, self.trainer.device)
        rule = LocalRule(trainer.settings, {}, {})
        parameters = trainer.adapter.parameters
        optimizer = rule.begin(parameters) if fused else torch.optim.AdamW(parameters, lr=2e-3, foreach=False)
        generator = torch.Generator().manual_seed(0)

        def step() -> None:
            draw = Draw.sample(batch.latents, trainer.settings.objective, generator).to(trainer.device)
            trainer.step(batch, draw, rule, optimizer)

        return step

    def flops_a_window(self) -> float:
        """Floating-point operations of a step's forward and backward pass for a window, as PEFT and torch compute it:
        extra operations of a faster way do not count."""
        step = self.stepper(1)
        with without("one product", self.adapter.model), FlopCounterMode(display=False) as counter:
            step()
        return float(counter.get_total_flops())


@contextlib.contextmanager
def without(what: str, model: nn.Module) -> Iterator[None]:
    """Compute an adapted model without an optimisation that is always on; with all of them, if `what` is empty."""
    with contextlib.ExitStack() as undone:
        if what:  # the kernels need the one product
            undone.enter_context(mock.patch("training.model.backbones.frame_attention.HAS_TRITON", False))
        if what == "one product":
            undone.enter_context(pefts_products(model))
        yield


def build_subject(kind: str, sizes: Sizes, device: torch.device, targets: str = "attention") -> Subject:
    torch.manual_seed(0)
    with torch.device(device):
        backbone = random_backbone(kind, sizes)
    backbone.eval().requires_grad_(False)
    parameters = sum(p.numel() for p in backbone.parameters())
    settings = settings_for(sizes, targets)
    adapter = Adapter(backbone, settings.adapter, 0)
    adapter.model.to(device)
    storage = ClientStorage(RunFolder(Path(tempfile.gettempdir()) / "no-run"), "fedavg")
    vae, ruler = SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)), IdentityRuler().frozen()
    return Subject(ClientTrainer(storage, adapter, vae, ruler, settings, 0), sizes, parameters)


def federated_run(root: Path, kind: str, sizes: Sizes, device: torch.device) -> RunFolder:
    """A run's folder with a random backbone, a small autoencoder and clients of four training clips each."""
    run = RunFolder(root)
    with device:  # a GPU draws a billion weights at once; a CPU takes half a minute
        random_backbone(kind, sizes).save(run.model("backbone"))
    SmallVae(VaeSettings(latent_channels=4)).eval().save(run.model("vae"))
    IdentityRuler().frozen().save(run.model("rulers") / "identity")
    for number in range(sizes.clients):
        splits = ["train"] * 4 + ["validation", "test"]
        samples = [_sample(f"client{number}", 100 * number + i, split, sizes) for i, split in enumerate(splits)]
        write_shards(run.client(f"client{number}"), samples)
    return run


def _sample(client: str, seed: int, split: str, sizes: Sizes) -> Sample:
    rng, shape = np.random.default_rng(seed), sizes.shape
    frames, side = 3 * sizes.window, sizes.latent
    return Sample(
        key=f"{client}_{seed}",
        client=client,
        clip_id=f"{client}/{seed}",
        split=split,
        latents=rng.normal(size=(frames, 4, side, side)).astype(np.float16),
        speech=rng.normal(size=(frames, shape.speech_steps, shape.speech_dim)).astype(np.float16),
        reference_latent=rng.normal(size=(4, side, side)).astype(np.float16),
        reference=rng.integers(0, 256, (sizes.pixels, sizes.pixels, 3), dtype=np.uint8),
        landmarks=rng.normal(sizes.pixels / 2, sizes.pixels / 6, (frames, 68, 2)).astype(np.float32),
        motion=(0.1 * rng.normal(size=(frames, MOTION_DIM))).astype(np.float32),
    )


def bare_steps(trainer: ClientTrainer, client: str, steps: int) -> None:
    """A client's local steps in a plain loop on clips in memory: the least work of any federation."""
    federation, objective = trainer.settings.federation, trainer.settings.objective
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    rule = LocalRule(trainer.settings, {}, {})
    optimizer = rule.begin(trainer.adapter.parameters)
    clips = iter(trainer._clips(client, "train"))
    batches = stream_batches(clips, federation.batch_size, trainer.backbone.settings.window, rng)
    for batch in itertools.islice(batches, steps):
        draw = Draw.sample(batch.latents, objective, generator)
        trainer.step(batch.to(trainer.device), draw.to(trainer.device), rule, optimizer)
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()


def sd_vae(sizes: Sizes) -> Autoencoder:
    """The autoencoder of Stable Diffusion in our harness, weights random."""
    config = SD_VAE if not sizes.tiny else {**SD_VAE, "block_out_channels": [32] * 4, "layers_per_block": 1}
    return DiffusersAutoencoder(config, {}).eval().requires_grad_(False)


def inception() -> nn.Module:
    """torch-fidelity's InceptionV3, features of 2048: uint8 [N, 3, H, W] -> [N, 2048]; weights random."""
    from torch_fidelity import feature_extractor_inceptionv3 as package

    # Its constructor insists on a file of weights, and speed does not depend on what they are.
    network = package.FeatureExtractorInceptionV3
    with (
        mock.patch.object(package, "load_state_dict_from_url", lambda *a, **k: {}),
        mock.patch.object(network, "load_state_dict", lambda self, state: None),
    ):
        return network("inception", ["2048"])


def lpips_net(kind: str) -> nn.Module:
    """LPIPS whose backbone is random: two [N, 3, H, W] -> [N, 1, 1, 1]."""
    import lpips

    return lpips.LPIPS(net=kind, pretrained=False, pnet_rand=True, verbose=False).eval().requires_grad_(False)


def clip_features(sizes: Sizes, device: torch.device) -> tuple[Tensor, Tensor]:
    """A reference latent [C, h, w] and the speech [T, S, D] of a clip to generate."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(4, sizes.latent, sizes.latent, generator=generator)
    speech = torch.randn(sizes.frames, sizes.speech_steps, sizes.speech_dim, generator=generator)
    return reference.to(device), speech.to(device)


def taef2() -> Autoencoder | None:
    """The registered tiny autoencoder, or None if its files are not here."""
    try:
        return open_pretrained("taef2")
    except PrivFedTalkError:
        return None
