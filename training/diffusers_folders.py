"""Folders that diffusers' `save_pretrained` wrote, and ids of the hub: how they are told apart and told from others."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(/[\w.-]+)?")
"""owner/name, with the folder inside the repository as a third part where there is one (owner/name/vae)."""


def network_files(folder: Path) -> list[Path]:
    """What decides the network in a folder: its configuration and weights."""
    return sorted(path for pattern in ("config.json", "*.safetensors") for path in folder.glob(pattern))


def files_sha256(paths: Iterable[Path]) -> str:
    """One hash of files' names and contents."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()
