"""A run's small files that the stages left behind: rounds, losses, gains."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.files import read_json_lines
from common.folders import ADAPTER_RECORD, VALIDATION_LOSS, RunFolder
from evaluation.catalogue import BACKBONE
from training.privacy.accounting.promise import settings_in

FLOAT = 4  # bytes


def read_rounds(run: RunFolder, method: str) -> list[dict[str, Any]]:
    """The lines of `rounds.jsonl`, in order."""
    return read_json_lines(run.rounds(method))


def public_curve(run: RunFolder, method: str) -> list[tuple[float, float]]:
    """Public validation loss after each round: what outsiders can see, and what picks the checkpoint."""
    return [(line["round"], line["public_validation_loss"]) for line in read_rounds(run, method)]


def traffic(run: RunFolder, method: str) -> dict[str, Any]:
    """What travelled: sums over all rounds and clients, and what one client sends in one round."""
    rounds = read_rounds(run, method)
    parameters = int(json.loads((run.adapter(method) / ADAPTER_RECORD).read_text(encoding="utf-8"))["parameters"])
    each = traffic_by_round(rounds, parameters)
    up, parts = sum(one.up for one in each), sum(one.clients for one in each)
    return {
        "trainable_parameters": parameters,
        "bytes_up": up,
        "bytes_down": sum(one.down for one in each),
        "bytes_up_of_one_client_in_one_round": round(up / max(1, parts)),
    }


class RoundTraffic(NamedTuple):
    """What travelled in one round: how many clients, bytes up and bytes down."""

    clients: int
    up: int
    down: int


def traffic_by_round(rounds: Sequence[Mapping[str, Any]], parameters: int) -> list[RoundTraffic]:
    """As it was measured; or, where each client is drawn by a secret coin, as expected, without masks and headers:
    bytes count the cohorts, and who reads them would know more of the coins than the theorem allows."""
    used = rounds[-1].get("mechanism") if rounds else None
    if used and used["sampling"] == "poisson" and settings_in(used).secret_coins:
        one = plain_upload(rounds, parameters)
        expected = RoundTraffic(used["per_round"], used["per_round"] * one, used["per_round"] * FLOAT * parameters)
        return [expected] * len(rounds)
    return [RoundTraffic(len(line["clients"]), line["bytes_up"], line["bytes_down"]) for line in rounds]


def plain_upload(rounds: Sequence[Mapping[str, Any]], parameters: int) -> int:
    """Bytes that one client's vectors hold in one round, without masks and headers; 0 where none are sent.

    Logs from before `vector_bytes` say only whether anything was sent: one vector of all parameters then.
    """
    older = FLOAT * parameters
    return max((line.get("vector_bytes", older if line["bytes_up"] else 0) for line in rounds), default=0)


def loss_file(run: RunFolder, name: str) -> Path:
    return run.evaluation(name) / VALIDATION_LOSS


def read_losses(run: RunFolder, name: str) -> dict[str, float]:
    """Each client's loss on its held-out clips; empty for what has no denoiser, or was not evaluated."""
    path = loss_file(run, name)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def gains(run: RunFolder, method: str) -> dict[str, float]:
    """Fall of each client's held-out loss against the frozen backbone's, percent."""
    before = read_losses(run, BACKBONE)
    return {
        client: 100 * (1 - loss / before[client])
        for client, loss in read_losses(run, method).items()
        if client in before
    }


def parameter_count(path: Path) -> int:
    """How many numbers a safetensors file holds, from its header alone."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def read_privacy(run: RunFolder, method: str) -> dict[str, Any]:
    """The method's privacy report, as `training.claims.report` wrote it."""
    return json.loads((run.privacy(method)).read_text(encoding="utf-8"))
