"""Simulated dropouts and faulty updates.

The server never learns which clients were faulty, or why a client dropped out; only the simulation's log says so. This
module is not used where clients are separate machines.

Faults. All but the last happen before the client's software clips and protects the update:
  nan          training diverged: every number is NaN. The client sends zeros and its noise share.
  exploding    the update is a million times too long; clipping bounds it.
  zero         the update is zero.
  sign_flipped the update points in the opposite direction.
  stale        the client trained from the theta of some rounds ago.
  unclipped    the client's software is wrong: it sends a thousand times what clipping allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from common import seeding
from common.errors import PrivFedTalkError
from training.federation.client.training import Announcement, LocalUpdate
from training.federation.engine import Engine
from training.federation.methods.base import Theta
from training.federation.server.aggregation import Contribution
from training.privacy.secure_aggregation.in_process import DropStage
from training.settings.rounds import AvailabilitySettings, FaultSettings

EXPLOSION = 1e6
UNCLIPPED = 1000
NEVER_THERE = "before training"
STAGES: tuple[DropStage, ...] = ("advertise", "share_keys", "masked_input", "consent", "unmask")


@dataclass(frozen=True)
class Fate:
    """What becomes of one client in one round.

    `lost` says why no update comes ("before training", "after training", "past the deadline"; empty: one comes),
    `silent_at` at which stage of the upload the client falls silent.
    """

    lost: str
    silent_at: DropStage | None
    seconds: float

    @property
    def gone(self) -> bool:
        return bool(self.lost) or self.silent_at is not None


def fates(clients: Sequence[str], settings: AvailabilitySettings, seed: int, number: int) -> dict[str, Fate]:
    """Each client's fate in round `number`. Every draw is always made, so that one chance does not shift another."""
    return {client: _fate(client, settings, seed, number) for client in clients}


def _fate(client: str, settings: AvailabilitySettings, seed: int, number: int) -> Fate:
    device = seeding.generator(seed, "device", client).normal()
    rng = seeding.generator(seed, "availability", client, str(number))
    before, after, upload = rng.random(3)
    stage, jitter = STAGES[rng.integers(len(STAGES))], rng.normal()
    spread = settings.device_spread * device + settings.round_spread * jitter
    seconds = float(settings.median_seconds * np.exp(spread))
    lost = ""
    if before < settings.before_training:
        lost = NEVER_THERE
    elif after < settings.after_training:
        lost = "after training"
    elif settings.deadline_seconds is not None and seconds > settings.deadline_seconds:
        lost = "past the deadline"
    silent = not lost and upload < settings.during_upload
    return Fate(lost, stage if silent else None, seconds)


def silent(fates: Mapping[str, Fate]) -> dict[DropStage, set[str]]:
    """Clients that fall silent, by stage of the upload."""
    stages: dict[DropStage, set[str]] = {}
    for client, fate in fates.items():
        if fate.silent_at is not None:
            stages.setdefault(fate.silent_at, set()).add(client)
    return stages


def check_faults(faults: Sequence[FaultSettings], clients: Sequence[str]) -> None:
    """Raise PrivFedTalkError if a fault names somebody who is not a client."""
    if unknown := sorted({name for fault in faults for name in fault.clients} - set(clients)):
        raise PrivFedTalkError(
            f"federation.faults names {', '.join(unknown)}, which is no client of this run",
            f"choose among {', '.join(clients[:8])}{', …' if len(clients) > 8 else ''}",
        )


def faulty(clients: Sequence[str], faults: Sequence[FaultSettings], seed: int, number: int) -> dict[str, FaultSettings]:
    """Fault of each faulty client in round `number`; the first if several apply."""
    struck: dict[str, FaultSettings] = {}
    for index, fault in enumerate(faults):
        for client in clients:
            if client in struck or (fault.clients and client not in fault.clients):
                continue
            if seeding.generator(seed, "fault", str(index), client, str(number)).random() < fault.probability:
                struck[client] = fault
    return struck


def train(
    engine: Engine,
    clients: Sequence[str],
    announced: Announcement,
    struck: Mapping[str, FaultSettings],
    earlier: Sequence[Theta],
) -> dict[str, LocalUpdate]:
    """Each client's update, with faults applied. `earlier` has the thetas of earlier rounds, newest last."""
    groups: dict[int, list[str]] = {}
    for client in clients:
        fault = struck.get(client)
        late = min(fault.rounds_late, len(earlier)) if fault and fault.kind == "stale" else 0
        groups.setdefault(late, []).append(client)
    trained: dict[str, LocalUpdate] = {}
    for late, group in groups.items():
        from_theta = replace(announced, theta=earlier[-late]) if late else announced
        trained |= engine.train(group, from_theta)
    return {client: _with_fault(trained[client], struck.get(client)) for client in clients}


def _with_fault(update: LocalUpdate, fault: FaultSettings | None) -> LocalUpdate:
    match fault.kind if fault else None:
        case "nan":
            return replace(update, delta=np.full_like(update.delta, np.nan))
        case "exploding":
            return replace(update, delta=update.delta * np.float32(EXPLOSION))
        case "zero":
            return replace(update, delta=np.zeros_like(update.delta))
        case "sign_flipped":
            return replace(update, delta=-update.delta)
        case _:
            return update


def sent(contribution: Contribution, fault: FaultSettings | None) -> Contribution:
    """What the client sends: its contribution, or under the fault `unclipped` one that exceeds the clipping norm."""
    if fault is None or fault.kind != "unclipped":
        return contribution
    vector = contribution.vector
    return replace(contribution, vector=vector * vector.dtype.type(UNCLIPPED))


def thetas_needed(faults: Sequence[FaultSettings]) -> int:
    """The number of earlier thetas to keep for stale clients."""
    return max((fault.rounds_late for fault in faults if fault.kind == "stale"), default=0)
