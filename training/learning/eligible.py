"""Clients that can train: they agreed to it, and have long enough clips for training and for validation."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from preparation.clients.consent import objections
from preparation.clients.roles import load_clients, of_role
from preparation.shards.gate import Gate
from preparation.shards.store import load_index
from training.model.backbones.kinds import window_of
from training.model.data import longest
from training.settings import TrainingSettings


def trainable_clients(run: RunFolder, consent_required: bool) -> list[str]:
    """Clients who agreed and have samples for training and validation, sorted; PrivFedTalkError if there are none."""
    able = able_clients(run)
    refused = objections(run, able, "training", consent_required)
    if len(refused) == len(able):
        client, reason = next(iter(refused.items()))
        raise PrivFedTalkError(
            f"no client in {run.root} has agreed to training ({client}: {reason}"
            + (f", and {len(refused) - 1} others)" if len(refused) > 1 else ")"),
            "record what they agreed to: privfedtalk prepare --consent FILE, or privfedtalk consent grant; where "
            "something else covers the corpus, --set training.consent.required=false",
        )
    return [client for client in able if client not in refused]


def short_clients(run: RunFolder, clients: Sequence[str], settings: TrainingSettings) -> dict[str, str]:
    """The clients without a clip as long as the backbone's window, hence without a batch, each with the reason.

    Each is named on standard error, and the federation goes on without them. PrivFedTalkError if no client is left.
    """
    frames = window_of(run.model("backbone"))
    # The score by speech is a loss on windows of the validation clips.
    splits = ("train", "validation") if settings.federation.score == "speech" else ("train",)
    found: dict[str, str] = {}
    gate = Gate(run, "training", settings.consent.required)
    for client in clients:
        for split in splits:
            samples = gate.samples(client, split, verify=False)
            most = longest((len(sample.latents) for sample in samples), frames)
            if most < frames:
                found[client] = (
                    f"no clip for {split} is as long as a window of {frames} frames (the longest has {most})"
                )
                break
    remedy = "give longer clips, or set training.backbone.window to fewer frames"
    if found and len(found) == len(clients):
        client, reason = next(iter(found.items()))
        others = f", and {len(found) - 1} others" if len(found) > 1 else ""
        raise PrivFedTalkError(f"no client in {run.root} can train: {client}: {reason}{others}", remedy)
    for client, reason in found.items():
        sys.stderr.write(f"windows: {client} does not take part: {reason}; {remedy}\n")
    return found


def unable_clients(run: RunFolder) -> dict[str, str]:
    """Clients without samples for training or validation, each with the reason.

    One line on standard error names the first of them, since a corpus may have thousands of people with a clip or two.
    """
    found = {}
    for name, count in _splits(run).items():
        if lacking := [split for split in ("train", "validation") if not count.get(split)]:
            found[name] = f"no usable clip for {' and '.join(lacking)}"
    if found:
        first = ", ".join(list(found)[:5]) + ", …" * (len(found) > 5)
        sys.stderr.write(
            f"clips: {len(found)} clients do not take part ({first}): they have no usable clip to train on or to "
            "validate with; give each three\n"
        )
    return found


def _splits(run: RunFolder) -> dict[str, dict[str, int]]:
    """Each client's count of samples by split."""
    return {name: load_index(run.client(name)).splits for name in of_role(load_clients(run.clients_table), "client")}


def able_clients(run: RunFolder) -> list[str]:
    """Clients with samples for training and for validation, sorted, whether they agreed or not."""
    able = [name for name, count in _splits(run).items() if count.get("train") and count.get("validation")]
    if not able:
        raise PrivFedTalkError(
            f"no client in {run.root} has samples both to train on and to validate with",
            remedy="give clients at least three usable clips each",
        )
    return able
