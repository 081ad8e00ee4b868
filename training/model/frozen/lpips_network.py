"""LPIPS (Zhang et al. 2018, v0.1) with a backbone from a local file; nothing is downloaded.

The package contains the linear heads. The backbone is torchvision's ImageNet network, looked for in the folders of
`common.weights.registry` and in torch's own cache, under the name torchvision downloads it by, which ends in the first
eight digits of its sha256.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import CorruptFileError, MissingWeightError
from common.weights import registry as weights
from training.model.device import deterministic

BACKBONES = {
    "alex": "alexnet-owt-7be5be79.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
    "vgg": "vgg16-397923af.pth",
}


class Lpips(nn.Module):
    """Distances [B] between two batches of pictures [B, 3, H, W] in [0, 1]; differentiable, frozen."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        found = find_backbone(kind)
        # Imported here since it loads torchvision, which only LPIPS needs.
        import lpips

        # lpips first draws random weights from the global generator (they are overwritten below), and calls torchvision
        # with an argument that has been renamed, hence the warning.
        with deterministic(0), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision.models._utils")
            self.network: Any = lpips.LPIPS(net=kind, pnet_rand=True, verbose=False)
        stored = torch.load(found, map_location="cpu", weights_only=True)
        own = self.network.net.state_dict()
        # lpips cuts torchvision's `features` into slices but keeps their numbers: slice2.3.weight is features.3.weight.
        names = {name: "features." + name.partition(".")[2] for name in own}
        if missing := sorted(set(names.values()) - set(stored)):
            raise CorruptFileError(f"{found} lacks {missing[0]}", remedy=f"replace it by torchvision's {found.name}")
        self.network.net.load_state_dict({name: stored[source] for name, source in names.items()})
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor, others: Tensor) -> Tensor:
        return self.network(pictures, others, normalize=True).flatten()


def find_backbone(kind: str) -> Path:
    """The verified file of LPIPS's backbone `kind`; if it is missing, MissingWeightError says how to get it."""
    file = BACKBONES[kind]
    folders = [*weights.folders(), Path(torch.hub.get_dir()) / "checkpoints"]
    for folder in folders:
        path = folder / file
        if path.is_file():
            prefix = path.stem.rpartition("-")[2]
            with path.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            if not digest.startswith(prefix):
                raise CorruptFileError(
                    f"{path} is not torchvision's: its sha256 begins {digest[:8]}, not {prefix}",
                    remedy="delete it and fetch it again",
                )
            return path
    looked = ", ".join(str(folder) for folder in folders)
    raise MissingWeightError(
        f"{file}, the backbone of LPIPS ({kind}), is in none of {looked}",
        remedy=(f"`privfedtalk weights fetch lpips_{kind}`, or copy torchvision's {file} to {folders[-1]}"),
    )
