"""Clients that can train: they agreed to it, and have long enough clips for training and for validation.

With `training.federation.unmeasured: allow`, clips for training are enough; clients without a clip for validation are
called `unmeasured` here.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from itertools import islice

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from preparation.clients.consent import objections
from preparation.clients.roles import load_clients, of_role
from preparation.shards.gate import Gate
from preparation.shards.store import load_index
from training.model.backbones.kinds import window_of
from training.model.data import longest
from training.settings import FederationSettings, TrainingSettings

MORE_CLIPS = "give each at least three usable clips, or one recording of ten seconds"
ALLOW = "let them train without being measured: --set training.federation.unmeasured=allow"
LONGER = "give longer clips, or set training.backbone.window to fewer frames"


def may_be_unmeasured(settings: FederationSettings) -> bool:
    """Whether clients without a clip to validate with take part."""
    return settings.unmeasured == "allow"


def trainable_clients(run: RunFolder, consent_required: bool, unmeasured: bool = False) -> list[str]:
    """Clients who agreed and are in `able_clients`, sorted; PrivFedTalkError if there are none."""
    able = able_clients(run, unmeasured)
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
    found: dict[str, str] = {}
    for client in clients:
        for split in windowed_splits(settings.federation):
            most = longest_clip(run, client, split, frames, settings.consent.required)
            if most < frames:
                found[client] = too_short(split, frames, most)
                break
    if found and len(found) == len(clients):
        client, reason = next(iter(found.items()))
        others = f", and {len(found) - 1} others" if len(found) > 1 else ""
        raise PrivFedTalkError(f"no client in {run.root} can train: {client}: {reason}{others}", LONGER)
    for client, reason in found.items():
        sys.stderr.write(f"windows: {client} does not take part: {reason}; {LONGER}\n")
    return found


def windowed_splits(settings: FederationSettings) -> tuple[str, ...]:
    """The splits in which a client must have a clip as long as a window to take part."""
    # The score by speech is a loss on windows of the validation clips.
    return ("train", "validation") if settings.score == "speech" and not may_be_unmeasured(settings) else ("train",)


def longest_clip(run: RunFolder, client: str, split: str, enough: int, consent_required: bool) -> int:
    """Frames of a client's longest clip of a split; those that follow one of `enough` frames are not read."""
    samples = Gate(run, "training", consent_required).samples(client, split, verify=False)
    return longest((len(sample.latents) for sample in samples), enough)


def too_short(split: str, frames: int, most: int) -> str:
    """Why a client whose longest clip has `most` frames has no window of `frames`."""
    return f"no clip for {split} is as long as a window of {frames} frames (the longest has {most})"


def unmeasured_clients(run: RunFolder, clients: Sequence[str], settings: TrainingSettings) -> list[str]:
    """Those of the clients who train without a score of their own; one line on standard error names the first few."""
    if not may_be_unmeasured(settings.federation):
        return []
    required, by_speech = settings.consent.required, settings.federation.score == "speech"
    # The score by speech is a loss on windows; for the paper's score a clip of any length will do.
    frames = window_of(run.model("backbone")) if by_speech else 0
    found = [
        client
        for client in clients
        if not load_index(run.client(client)).splits.get("validation")
        or (by_speech and longest_clip(run, client, "validation", frames, required) < frames)
    ]
    if found:
        sys.stderr.write(
            f"clips: {len(found)} clients train without being measured ({some(found)}): they have no usable clip to "
            "validate with\n"
        )
    return found


def unable_clients(run: RunFolder, unmeasured: bool = False) -> dict[str, str]:
    """Clients without samples for training or validation, each with the reason.

    One line on standard error names the first of them, since a corpus may have thousands of people with a clip or two.
    """
    found = {}
    for name, count in _splits(run).items():
        if lacking := [split for split in _needed(unmeasured) if not count.get(split)]:
            found[name] = f"no usable clip for {' and '.join(lacking)}"
    if found:
        sys.stderr.write(
            f"clips: {len(found)} clients do not take part ({some(found)}): they have no usable clip to train on"
            f"{'' if unmeasured else ' or to validate with'}; give each three\n"
        )
    return found


def able_clients(run: RunFolder, unmeasured: bool = False) -> list[str]:
    """Clients with samples for training and, unless they may be `unmeasured`, for validation, sorted, whether they
    agreed or not."""
    able = [name for name, count in _splits(run).items() if all(count.get(split) for split in _needed(unmeasured))]
    if not able:
        both = "" if unmeasured else " both to train on and to validate with"
        raise PrivFedTalkError(
            f"no client in {run.root} has samples{both or ' to train on'}",
            remedy=MORE_CLIPS if unmeasured else f"{MORE_CLIPS}, or {ALLOW}",
        )
    return able


def some(names: Collection[str], most: int = 5) -> str:
    """The first few names."""
    return ", ".join(islice(names, most)) + ", …" * (len(names) > most)


def _needed(unmeasured: bool) -> tuple[str, ...]:
    return ("train",) if unmeasured else ("train", "validation")


def _splits(run: RunFolder) -> dict[str, dict[str, int]]:
    """Each client's count of samples by split."""
    return {name: load_index(run.client(name)).splits for name in of_role(load_clients(run.clients_table), "client")}
