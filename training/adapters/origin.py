"""Checks that an adapter and the rounds recorded beside it belong together, and removes both together.

The rounds say whose clips are in the adapter and what privacy it cost. An adapter beside the rounds of another
federation would be used without the consent of its people, so every use of an adapter is checked here first.
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
"""Reports in a federation's folder about the adapter beside them."""


def retire(run: RunFolder, method: str) -> None:
    """Delete the adapters of an earlier training of a method, shared and clients' own, and the reports about them.

    Call it before the rounds are deleted: then no adapter outlives its rounds, even after an interruption.
    """
    remove_folder(run.adapter(method))
    remove_own_adapters(run, method)
    for name in OF_A_TRAINING:
        (run.federation(method) / name).unlink(missing_ok=True)


def forget(run: RunFolder, method: str) -> None:
    """Delete everything that an earlier training of a method left in a run, adapters first; the ledger stays."""
    retire(run, method)
    _delete_client_folders(run, method, sorted(run.root.glob(f"clients/*/methods/{method}")))
    shutil.rmtree(run.federation(method), ignore_errors=True)


def remove_own_adapters(run: RunFolder, method: str) -> None:
    """Delete all clients' own adapters of a method, which an earlier training left."""
    _delete_client_folders(run, method, own_adapters(run, method))


def _delete_client_folders(run: RunFolder, method: str, folders: Sequence[Path]) -> None:
    """Delete folders of clients, each atomically, without reading files of clients that may have revoked consent."""
    for folder in folders:
        client = folder.relative_to(run.root).parts[1]
        trash = partial_of(run.federation(method) / client, "old")
        trash.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(trash, ignore_errors=True)
        folder.replace(trash)
        shutil.rmtree(trash, ignore_errors=True)


def own_adapters(run: RunFolder, method: str) -> list[Path]:
    """The folders of all clients' own adapters of a method, also of clients that no longer take part."""
    return sorted(run.root.glob(f"clients/*/methods/{method}/adapter"))


def made_by(federation: str, theta: npt.NDArray[np.float32]) -> dict[str, str]:
    """The origin in a shared adapter's record: the federation's name, and the digest of the adapter's vector."""
    return {"federation": federation, "theta_sha256": theta_sha256(theta)}


def weights_of(run: RunFolder, method: str) -> str | None:
    """The SHA-256 of a method's shared adapter, by which figures name what they measured; None if there is none."""
    weights = run.adapter(method) / ADAPTER_WEIGHTS
    return sha256_of(weights) if weights.exists() else None


def theta_sha256(theta: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(theta, "<f4").tobytes()).hexdigest()


def check_origin(run: RunFolder, folder: Path) -> None:
    """Raise PrivFedTalkError if one of the run's own adapters was not made by the rounds beside it.

    Imported adapters pass.
    """
    objection = objection_to_origin(run, folder)
    if objection:
        method = _place(run, folder)[0]
        raise PrivFedTalkError(
            f"the adapter in {folder} is not used: {objection}",
            f"train the method again: {command('train', run=run.root, method=method)}; or put back the records of the "
            "adapter",
        )


def objection_to_origin(run: RunFolder, folder: Path) -> str:
    """Why an adapter was not made by the rounds beside it; empty if it was.

    Also empty if there is nothing to compare: no log of rounds (see `has_rounds`), or an imported adapter.
    """
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
        return f"it was kept after round {number}, and {rounds} has no rounds up to there that moved an adapter"
    return ""


def has_rounds(run: RunFolder, method: str) -> bool:
    """Whether the run has the records of a method's rounds, which say who is in its adapter."""
    return run.rounds(method).exists()


def _place(run: RunFolder, folder: Path) -> tuple[str, str]:
    """(method, client) of the adapter folder by its path; client is "" for a shared adapter, both for other folders."""
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
    """The name of the federation whose rounds lie in the run; None if its checkpoint is gone."""
    path = run.federation(method) / "checkpoint" / FEDERATION
    return str(json.loads(path.read_text(encoding="utf-8"))["name"]) if path.exists() else None


def _facts(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / ADAPTER_RECORD).read_text(encoding="utf-8"))
    return facts
