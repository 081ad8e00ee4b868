"""A federation's checkpoint: theta and the server's state after the last finished round, and every round's record.

A federation needs nothing more to continue: the coins decide the cohorts, the sampler and the accountant follow from
the records, and clients keep their own states in their own folders. If cohorts are secret, the checkpoint contains
their key; only the coordinator may read it.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetensors.numpy import load_file, save_file

from common.errors import CorruptFileError
from common.files import replacing, write_text
from common.folders import FEDERATION, ROUNDS
from training.federation.methods.base import State, Theta
from training.privacy.accounting.coins import Coins

Outcome = Literal["applied", "empty", "aborted", "rolled back"]
"""applied: theta moved. empty: nobody was drawn and there was no noise to add. aborted: too few clients were left, and
nothing was opened. rolled back: a check refused the opened sum or the adapter that it led to."""


@dataclass(frozen=True)
class RoundRecord:
    """One line of `rounds.jsonl`. `simulation` holds what only a simulation can know; no server ever sees it.

    `clients` were sampled, `returned` are in the sum, `dropped` maps clients that dropped out to what the server waited
    for. `bytes_up` and `bytes_down` are the bytes that all clients together sent and received; `vector_bytes` is the
    size of one client's vectors without masks and headers. Figures of the sum are None if no sum was opened or nobody
    was in it; `public_validation_loss` is that of the adapter after the round, whether it moved or not. `reopened`
    holds the cohorts of earlier attempts at this round whose sum may have been opened before the run was interrupted.
    `mechanism` describes the noise and sampling used (see `training.privacy.accounting.promise`). `near_abort`: the sum
    would not have opened with one client fewer. `signature`: see `training.privacy.accounting.signed_log`.
    """

    round: int
    clients: list[str]
    survivors: int
    public_validation_loss: float
    weight_sum: float | None
    within_clip: float | None
    score_mean: float | None
    update_norm: float
    clip_norm: float
    denominator: float
    bytes_up: int
    bytes_down: int
    seconds: dict[str, float]
    vector_bytes: int = 0
    outcome: Outcome = "applied"
    reason: str = ""
    returned: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    epsilon_release: float | None = None
    epsilon_server: float | None = None
    reopened: list[list[str]] = field(default_factory=list)
    mechanism: dict[str, Any] = field(default_factory=dict)
    near_abort: bool = False
    simulation: dict[str, Any] = field(default_factory=dict)
    signature: str = ""

    @property
    def applied(self) -> bool:
        return self.outcome == "applied"

    @property
    def opened(self) -> bool:
        """Whether the server saw the round's sum, so that it cost privacy."""
        return self.outcome in ("applied", "rolled back")


@dataclass(frozen=True)
class Federation:
    """One federation's name in the ledger, and its coins."""

    name: str
    coins: Coins


@dataclass
class Progress:
    """The state of a federation between rounds. `earlier` holds the last announced thetas that stale clients need."""

    theta: Theta
    state: State
    best: Theta
    earlier: list[Theta] = field(default_factory=list)
    records: list[RoundRecord] = field(default_factory=list)

    @property
    def best_round(self) -> int:
        """The round after which the public validation loss was lowest; 0: no round was applied."""
        applied = [record for record in self.records if record.applied]
        return min(applied, key=lambda record: record.public_validation_loss).round if applied else 0

    def advance(self, record: RoundRecord, theta: Theta, state: State, reach: int = 0) -> None:
        """Move on to `theta` and `state` after the round of `record`; keep the last `reach` announced thetas."""
        self.records.append(record)
        self.earlier = [*self.earlier, self.theta][-reach:] if reach else []
        self.theta, self.state = theta, state
        if self.best_round == record.round:
            self.best = theta


def save_checkpoint(folder: Path, fingerprint: str, progress: Progress) -> None:
    """Write the checkpoint of the last round; earlier rounds have been saved already.

    The state file is replaced last, so that a killed run finds the round before; `load_checkpoint` removes a line of
    `rounds.jsonl` beyond that round.
    """
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True, exist_ok=True)
    number, best = progress.records[-1].round, progress.best_round
    vectors = {"theta": progress.theta, **{f"server.{name}": value for name, value in progress.state.items()}}
    vectors |= {f"earlier.{index:03d}": theta for index, theta in enumerate(progress.earlier)}
    with replacing(_vectors(folder, number)) as partial:
        save_file(vectors, partial)
    if number in (1, best):
        with replacing(_best(folder, best)) as partial:
            save_file({"theta": progress.best}, partial)
    # Only the new line is written: a thousand rounds would otherwise be written a thousand times.
    with (folder / ROUNDS).open("w" if number == 1 else "a", encoding="utf-8") as log:
        log.write(json.dumps(asdict(progress.records[-1]), allow_nan=False) + "\n")
    write_text(checkpoint / "state.json", json.dumps({"fingerprint": fingerprint, "round": number, "best": best}))
    for old in checkpoint.glob("*.safetensors"):
        if old not in {_vectors(folder, number), _best(folder, best)}:
            old.unlink()


def load_checkpoint(folder: Path, fingerprint: str) -> Progress | None:
    """The progress of a run with the same fingerprint, or None; then begin anew, after `discard_checkpoint`."""
    found, log = _state(folder), folder / ROUNDS
    if found is None or found["fingerprint"] != fingerprint:
        return None
    lines = log.read_text(encoding="utf-8").splitlines()[: found["round"]] if log.exists() else []
    if len(lines) < found["round"]:  # every line is written before the state that counts it
        raise CorruptFileError(
            f"{log} has {len(lines)} of the {found['round']} rounds that the checkpoint beside it counts",
            remedy="put the whole file back, or begin the federation anew with --fresh",
        )
    vectors = load_file(_vectors(folder, found["round"]))
    write_text(log, "".join(line + "\n" for line in lines))
    return Progress(
        theta=vectors["theta"],
        state=_with_prefix(vectors, "server."),
        best=load_file(_best(folder, found["best"]))["theta"],
        earlier=list(dict(sorted(_with_prefix(vectors, "earlier.").items())).values()),
        records=[RoundRecord(**json.loads(line)) for line in lines],
    )


def begin_checkpoint(folder: Path, fingerprint: str, coins: Coins) -> Federation:
    """A new federation's name and coins, saved before its first round so that it keeps them if it is interrupted."""
    federation = Federation(secrets.token_hex(8), coins)
    key = coins.key.hex() if coins.key else None
    path = folder / "checkpoint" / FEDERATION
    with replacing(path) as partial:
        partial.touch(mode=0o600)
        partial.write_text(
            json.dumps({"fingerprint": fingerprint, "name": federation.name, "coins": key}), encoding="utf-8"
        )
    return federation


def resume_federation(folder: Path, fingerprint: str, seed: int) -> Federation | None:
    """The federation that was begun here with the same fingerprint, or None."""
    path = folder / "checkpoint" / FEDERATION
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if found is None or found["fingerprint"] != fingerprint:
        return None
    return Federation(found["name"], Coins(seed, bytes.fromhex(found["coins"]) if found["coins"] else None))


def discard_checkpoint(folder: Path) -> None:
    """Delete what a run under other settings left in `folder`, before a client trains.

    Its rounds have the same names, and its clients' states are overwritten from the first round on, so continuing it
    later would mix two runs.
    """
    found = _state(folder)
    if found:
        sys.stderr.write(f"{folder.name}: {found['round']} rounds of a run under other settings are deleted\n")
    # The state first, so that a killed run leaves no checkpoint, never half of one.
    (folder / "checkpoint" / "state.json").unlink(missing_ok=True)
    (folder / ROUNDS).unlink(missing_ok=True)
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def _state(folder: Path) -> dict[str, Any] | None:
    file = folder / "checkpoint" / "state.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _with_prefix(vectors: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in vectors.items() if name.startswith(prefix)}


def _vectors(folder: Path, number: int) -> Path:
    return folder / "checkpoint" / f"round-{number:05d}.safetensors"


def _best(folder: Path, number: int) -> Path:
    return folder / "checkpoint" / f"best-{number:05d}.safetensors"
