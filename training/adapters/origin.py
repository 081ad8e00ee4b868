"""An adapter and the records of the rounds that made it: they belong together, and they go together.

Who is in an adapter, and what it cost, stands in the rounds beside it. An adapter beside other rounds would be used
without its people being asked, so every use of one asks here first.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import PrivFedTalkError
from common.files import partial_of, read_json_lines, remove_folder
from common.folders import ADAPTER_RECORD, ADAPTER_WEIGHTS, FEDERATION, PARTICIPATION, PRIVACY, PRIVACY_TEXT, RunFolder
from common.text.commands import command
from common.weights.registry import sha256_of

OF_A_TRAINING = (PRIVACY, PRIVACY_TEXT, PARTICIPATION)
"""What a federation's folder tells of the adapter beside it."""


def retire(run: RunFolder, method: str) -> None:
    """Take away the adapters that an earlier training of a method left, the shared one and clients' own, and what is
    told of them. To be called before its rounds are: whatever interrupts it, no adapter outlives its rounds."""
    remove_folder(run.adapter(method))
    remove_own_adapters(run, method)
    for name in OF_A_TRAINING:
        (run.federation(method) / name).unlink(missing_ok=True)


def forget(run: RunFolder, method: str) -> None:
    """Take away all that an earlier training of a method left in a run, adapters first; the ledger stays."""
    retire(run, method)
    _take_from_clients(run, method, sorted(run.root.glob(f"clients/*/methods/{method}")))
    shutil.rmtree(run.federation(method), ignore_errors=True)


def remove_own_adapters(run: RunFolder, method: str) -> None:
    """Take away all clients' own adapters of a method, which an earlier training left."""
    _take_from_clients(run, method, own_adapters(run, method))


def _take_from_clients(run: RunFolder, method: str, folders: Sequence[Path]) -> None:
    """Remove folders of clients, each as one, and without opening anything in the folder of who may have revoked."""
    for folder in folders:
        client = folder.relative_to(run.root).parts[1]
        trash = partial_of(run.federation(method) / client, "old")
        trash.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(trash, ignore_errors=True)
        folder.replace(trash)
        shutil.rmtree(trash, ignore_errors=True)


def own_adapters(run: RunFolder, method: str) -> list[Path]:
    """The folders of all clients' own adapters of a method, of those who sit out today too."""
    return sorted(run.root.glob(f"clients/*/methods/{method}/adapter"))


def made_by(federation: str, theta: npt.NDArray[np.float32]) -> dict[str, str]:
    """What the record of a shared adapter says of its origin: the federation's name, and the digest of its vector."""
    return {"federation": federation, "theta_sha256": theta_sha256(theta)}


def weights_of(run: RunFolder, method: str) -> str | None:
    """The SHA-256 of a method's shared adapter, by which figures say what they are of; None where there is none."""
    weights = run.adapter(method) / ADAPTER_WEIGHTS
    return sha256_of(weights) if weights.exists() else None


def theta_sha256(theta: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(theta, "<f4").tobytes()).hexdigest()


def check_origin(run: RunFolder, folder: Path) -> None:
    """Raise PrivFedTalkError where an adapter that lies in the run as its own was not made by the rounds that lie
    beside it; adapters that were imported pass."""
    objection = objection_to_origin(run, folder)
    if objection:
        method = _place(run, folder)[0]
        raise PrivFedTalkError(
            f"the adapter in {folder} is not used: {objection}",
            f"train the method again: {command('train', run=run.root, method=method)}; or put back the records of the "
            "adapter",
        )


def objection_to_origin(run: RunFolder, folder: Path) -> str:
    """Why an adapter was not made by the rounds beside it; empty where it was, and where nothing speaks against it:
    there is no log of rounds (see `has_rounds`), or the adapter is no training of this run's."""
    method, client = _place(run, folder)
    if not method or not (folder / ADAPTER_RECORD).exists():
        return ""
    facts, rounds = _facts(folder), run.rounds(method)
    name = _name_of_rounds(run, method)
    made = facts.get("federation")
    if made is not None and name is not None and made != name:
        return f"federation {made} made it, and the rounds in {rounds} are of federation {name}"
    if client and (run.adapter(method) / ADAPTER_RECORD).exists():
        begun, shared = facts.get("begun_from"), _facts(run.adapter(method)).get("theta_sha256")
        if begun is not None and shared is not None and begun != shared:
            return f"it was fitted from another shared adapter than the one in {run.adapter(method)}"
    if client or not rounds.exists() or not str(facts.get("round", "")).isdecimal():
        return ""
    number = int(facts["round"])
    lines = read_json_lines(rounds)
    if not any(line.get("outcome", "applied") == "applied" for line in lines[:number]) or len(lines) < number:
        return f"it stood after round {number}, and {rounds} has no rounds up to there that moved an adapter"
    return ""


def has_rounds(run: RunFolder, method: str) -> bool:
    """Whether the records are there that tell who is in a method's adapter."""
    return run.rounds(method).exists()


def _place(run: RunFolder, folder: Path) -> tuple[str, str]:
    """The method, and the client or "", whose adapter a folder is by the place where it lies; "" for any other."""
    try:
        parts = folder.resolve().relative_to(run.root.resolve()).parts
    except ValueError:
        return "", ""
    match parts:
        case ("federation", method, "adapter"):
            return method, ""
        case ("clients", client, "methods", method, "adapter"):
            return method, client
    return "", ""


def _name_of_rounds(run: RunFolder, method: str) -> str | None:
    """The name of the federation whose rounds lie in the run, where its checkpoint is still there."""
    path = run.federation(method) / "checkpoint" / FEDERATION
    return str(json.loads(path.read_text(encoding="utf-8"))["name"]) if path.exists() else None


def _facts(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / ADAPTER_RECORD).read_text(encoding="utf-8"))
    return facts
