"""Reads the small files that a run's stages wrote: rounds, losses, privacy reports; and what follows from them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.files import read_json_lines
from common.folders import ADAPTER_RECORD, VALIDATION_LOSS, RunFolder
from evaluation.catalogue import BACKBONE
from training.privacy.accounting.promise import schedule_in, settings_in

FLOAT = 4  # bytes


def read_rounds(run: RunFolder, method: str) -> list[dict[str, Any]]:
    """The lines of `rounds.jsonl`, in order."""
    return read_json_lines(run.rounds(method))


def public_curve(run: RunFolder, method: str) -> list[tuple[float, float]]:
    """(round, public validation loss) of each round: outsiders can compute it, and it picks the checkpoint."""
    return [(line["round"], line["public_validation_loss"]) for line in read_rounds(run, method)]


def traffic(run: RunFolder, method: str) -> dict[str, Any]:
    """Bytes sent up and down over all rounds and clients, and by one client in one round."""
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
    """Traffic of one round: the number of clients, bytes up and bytes down."""

    clients: int
    up: int
    down: int


def traffic_by_round(rounds: Sequence[Mapping[str, Any]], parameters: int) -> list[RoundTraffic]:
    """Traffic of each round: as measured or, where clients are drawn by secret coins, as expected.

    Measured bytes would reveal how many clients a secret draw chose, more than the theorem allows anybody to know. The
    expected bytes are without masks and headers.
    """
    mechanism = rounds[-1].get("mechanism") if rounds else None
    planned = schedule_in(mechanism, len(rounds), 0, amplifies=True) if mechanism else None
    if mechanism and planned and planned.hides_size and settings_in(mechanism).secret_coins:
        cohort, one = round(planned.mean_cohort), plain_upload(rounds, parameters)
        expected = RoundTraffic(cohort, cohort * one, cohort * FLOAT * parameters)
        return [expected] * len(rounds)
    return [RoundTraffic(len(line["clients"]), line["bytes_up"], line["bytes_down"]) for line in rounds]


def plain_upload(rounds: Sequence[Mapping[str, Any]], parameters: int) -> int:
    """Bytes of one client's vectors in one round, without masks and headers; 0 where none are sent.

    Logs older than the entry `vector_bytes` say only whether anything was sent: it is then taken for one vector of all
    parameters.
    """
    older = FLOAT * parameters
    return max((line.get("vector_bytes", older if line["bytes_up"] else 0) for line in rounds), default=0)


def loss_file(run: RunFolder, name: str) -> Path:
    return run.evaluation(name) / VALIDATION_LOSS


def read_losses(run: RunFolder, name: str) -> dict[str, float]:
    """client -> loss on its held-out clips; empty for a reference without denoiser, or where nothing was evaluated."""
    path = loss_file(run, name)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def gains(run: RunFolder, method: str) -> dict[str, float]:
    """client -> fall of its held-out loss against the frozen backbone's, percent."""
    before = read_losses(run, BACKBONE)
    return {
        client: 100 * (1 - loss / before[client])
        for client, loss in read_losses(run, method).items()
        if client in before
    }


def parameter_count(path: Path) -> int:
    """The number of parameters in a safetensors file, read from its header alone."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def read_privacy(run: RunFolder, method: str) -> dict[str, Any]:
    """The method's privacy report, as `training.claims.report` wrote it."""
    return json.loads((run.privacy(method)).read_text(encoding="utf-8"))
