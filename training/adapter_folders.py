"""Adapters as folders that travel: what is in one, taking one out of a run, and putting one into another run."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from preparation.errors import CorruptFileError, PrivFedTalkError
from preparation.folders import RunFolder
from preparation.weights import sha256_of
from training.cards import adapter_card, metrics_of

WEIGHTS, CONFIG, FACTS = "adapter_model.safetensors", "adapter_config.json", "privfedtalk.json"
"""PEFT's two files, and ours beside them."""


@dataclass(frozen=True)
class AdapterFacts:
    """What an adapter's folder says of itself; `parameters` are counted in the weights, `base_sha256` names the
    backbone it was trained on."""

    rank: int
    alpha: float
    targets: list[str]
    tensors: int
    parameters: int
    bytes: int
    sha256: str
    base_sha256: str
    method: str
    client: str | None
    privacy: str
    recorded: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def inspect_adapter(folder: Path) -> AdapterFacts:
    """Read an adapter's folder without loading a model; one that lacks a file or holds nonsense is an error."""
    for name in (WEIGHTS, CONFIG, FACTS):
        if not (folder / name).is_file():
            raise PrivFedTalkError(
                f"{folder} is no adapter of PrivFedTalk's: it has no {name}",
                "name a folder that `privfedtalk adapter export` wrote, or one in a run's federation/METHOD/adapter",
            )
    try:
        recorded, config = json.loads((folder / FACTS).read_text()), json.loads((folder / CONFIG).read_text())
        with safe_open(folder / WEIGHTS, framework="numpy") as tensors:
            names = list(tensors.keys())
            sizes = [tensors.get_slice(name).get_shape() for name in names]
        return AdapterFacts(
            rank=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            targets=sorted(config["target_modules"]),
            tensors=len(names),
            parameters=sum(_product(size) for size in sizes),
            bytes=(folder / WEIGHTS).stat().st_size,
            sha256=sha256_of(folder / WEIGHTS),
            base_sha256=str(recorded["base_sha256"]),
            method=str(recorded.get("method", "unnamed")),
            client=recorded.get("client"),
            privacy=str(recorded.get("privacy", "no guarantee is recorded: treat it as not private")),
            recorded=recorded,
        )
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CorruptFileError(f"the adapter in {folder} cannot be read: {error}", "get it again") from error


def export_adapter(run: RunFolder, source: Path, out: Path) -> AdapterFacts:
    """Copy an adapter's files to `out`, a new or empty folder, with a card that has the run's figures of it.

    Of an adapter that was imported the run has none: those of its method are of the run's own adapter.
    """
    facts = inspect_adapter(source)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PrivFedTalkError(f"{out} is there and not an empty folder", "name another --out")
    out.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, CONFIG, FACTS):
        shutil.copyfile(source / name, out / name)
    imported = source.resolve().parent == run.imported(source.name).resolve().parent
    metrics, evaluated_on = metrics_of(run, facts.method) if facts.client is None and not imported else ({}, "")
    adapter_card(out, facts.recorded, metrics, evaluated_on, elsewhere=imported).write(out)
    return facts


def import_adapter(run: RunFolder, source: Path, name: str) -> Path:
    """Put an adapter into a run under a name, by which `generate --adapter` finds it.

    Refused where it was trained on another backbone than the run's, or the name is taken.
    """
    facts, base = inspect_adapter(source), base_of(run)
    if facts.base_sha256 != base:
        raise PrivFedTalkError(
            f"the adapter in {source} was trained on backbone {facts.base_sha256[:12]}, and {run.root} has {base[:12]}",
            "import it into a run with the same backbone",
        )
    target = run.imported(name)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise PrivFedTalkError(
            f"an adapter cannot be called {name!r}", "use letters, digits, dots, dashes, underscores"
        )
    if name == "global" or run.client(name).exists() or target.exists():
        raise PrivFedTalkError(f"{name} is taken in {run.root}", "give another name with --as")
    target.mkdir(parents=True)
    for file in (WEIGHTS, CONFIG, FACTS):
        shutil.copyfile(source / file, target / file)
    adapter_card(target, facts.recorded, elsewhere=True).write(target)
    return target


def base_of(run: RunFolder) -> str:
    """The hash of the run's backbone, as adapters name it."""
    from training.adapter import weights_sha256
    from training.backbone.kinds import load_backbone

    return weights_sha256(load_backbone(run.model("backbone")))


def _product(size: list[int]) -> int:
    total = 1
    for side in size:
        total *= side
    return total
