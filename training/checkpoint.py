"""A federation's checkpoint: theta and the server's state after the last finished round, and every round's record."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors.numpy import load_file, save_file

from training.methods.base import State, Theta


@dataclass(frozen=True)
class RoundRecord:
    """One line of `rounds.jsonl`. `simulation` holds what only a simulation can know; no server ever sees it."""

    round: int
    clients: list[str]
    survivors: int
    public_validation_loss: float
    weight_sum: float
    within_clip: float
    score_mean: float
    update_norm: float
    clip_norm: float
    denominator: float
    bytes_up: int
    bytes_down: int
    seconds: dict[str, float]
    simulation: dict[str, dict[str, float]] = field(default_factory=dict)


def save_checkpoint(folder: Path, fingerprint: str, theta: Theta, state: State, records: Sequence[RoundRecord]) -> None:
    """Write the checkpoint; the state file is replaced last, so that a killed run finds the round before."""
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True, exist_ok=True)
    number = records[-1].round
    save_file({"theta": theta, **{f"server.{name}": value for name, value in state.items()}}, _vectors(folder, number))
    rows = [asdict(record) for record in records]
    _replace(folder / "rounds.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    _replace(checkpoint / "state.json", json.dumps({"fingerprint": fingerprint, "round": number}))
    for old in checkpoint.glob("round-*.safetensors"):
        if old != _vectors(folder, number):
            old.unlink()


def load_checkpoint(folder: Path, fingerprint: str) -> tuple[Theta, State, list[RoundRecord]] | None:
    """Theta, server state and records of a run with the same fingerprint, or None to begin anew."""
    state_file = folder / "checkpoint" / "state.json"
    if not state_file.exists():
        return None
    found = json.loads(state_file.read_text())
    if found["fingerprint"] != fingerprint:
        return None
    vectors = load_file(_vectors(folder, found["round"]))
    state = {name.removeprefix("server."): value for name, value in vectors.items() if name != "theta"}
    lines = (folder / "rounds.jsonl").read_text().splitlines()[: found["round"]]
    return vectors["theta"], state, [RoundRecord(**json.loads(line)) for line in lines]


def _vectors(folder: Path, number: int) -> Path:
    return folder / "checkpoint" / f"round-{number:05d}.safetensors"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text)
    os.replace(temporary, path)  # noqa: PTH105  Path.replace is the same; os.replace says that it is atomic
