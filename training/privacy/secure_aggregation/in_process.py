"""Runs the whole protocol inside one process: every message is encoded, signed, sent as bytes and decoded."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.errors import PrivFedTalkError
from training.privacy.mechanisms.base import MechanismTerms
from training.privacy.mechanisms.factory import promised_terms
from training.privacy.mechanisms.grid import RingVector
from training.privacy.secure_aggregation.client import Client
from training.privacy.secure_aggregation.messages import RoundTerms
from training.privacy.secure_aggregation.policy import ClientPolicy
from training.privacy.secure_aggregation.server import Server, Stage
from training.settings.privacy import PrivacySettings

DropStage = Literal["advertise", "share_keys", "masked_input", "consent", "unmask"]

BARE = PrivacySettings(mode="none", threshold=0.5 + 1e-9, survivor_floor=1e-9, tolerated_colluders=0)
"""Settings that promise the protocol alone: a majority opens the sum, nobody adds noise, no client colludes."""


@dataclass
class Traffic:
    """Bytes one client sent and received in a round."""

    up: int = 0
    down: int = 0


class Aggregate(NamedTuple):
    """The result of a round: the exact modular sum, whose vectors are in it, and each client's traffic."""

    total: RingVector
    survivors: frozenset[str]
    bytes_by_client: dict[str, Traffic]
    answered: int  # how many gave shares to open it


def new_identities(clients: Set[str] | Mapping[str, object]) -> dict[str, Ed25519PrivateKey]:
    """One identity key for each client. They prove nothing in one process; between machines each makes its own."""
    return {client: Ed25519PrivateKey.generate() for client in sorted(clients)}


def aggregate_in_process(
    vectors: Mapping[str, RingVector],
    threshold: int,
    drop: Mapping[DropStage, Set[str]] | None = None,
    *,
    run_id: str | None = None,
    round_number: int = 0,
    minimum_survivors: int | None = None,
    identities: Mapping[str, Ed25519PrivateKey] | None = None,
    traffic: dict[str, Traffic] | None = None,
    settings: PrivacySettings = BARE,
    mechanism: MechanismTerms | None = None,
    taken_part: Mapping[str, Collection[int]] | None = None,
) -> Aggregate:
    """Σ of the vectors of all clients who reached the masked input, through the whole protocol.

    vectors: client → ring elements [length], uint32 or uint64, all alike (a client that drops out still has one).
    drop: stage → clients that fall silent at that stage and stay so; one that drops at "consent" or "unmask" has
    already sent its masked vector, which is in the sum.
    traffic: filled as messages pass, so that it is known of an abandoned round too.
    settings: the promise that the clients check the terms against. mechanism: the terms by which `vectors` were made;
    None: the promised ones. taken_part: client → earlier rounds in which its vector left it.
    RoundAbortedError if fewer than `threshold` remain at any stage, or fewer than `minimum_survivors` up to the masked
    vectors. ProtocolError if the terms are less than a client was promised.
    """
    shapes = {(vector.shape, vector.dtype) for vector in vectors.values()}
    if len(shapes) != 1:
        raise PrivFedTalkError(
            f"the clients' vectors differ: {sorted(map(str, shapes))}", remedy="give every client the same layout"
        )
    ((length,), dtype) = shapes.pop()
    keys = identities or new_identities(vectors)
    directory = {client: key.public_key().public_bytes_raw() for client, key in keys.items()}
    mechanism = mechanism or promised_terms(settings, len(vectors), settings.clip_norm)
    terms = RoundTerms(
        run_id=run_id or secrets.token_hex(16),
        round_number=round_number,
        roster={client: directory[client] for client in vectors},
        threshold=threshold,
        length=length,
        bits=32 if dtype.itemsize == 4 else 64,
        tolerated_colluders=settings.colluders_among(len(vectors)),
        minimum_survivors=minimum_survivors or 0,
        mechanism=mechanism,
        max_participation=settings.max_participation,
    )
    clients = {}
    for client in terms.clients:
        before = set((taken_part or {}).get(client, ()))
        policy = ClientPolicy(settings, directory, terms.run_id, mechanism.clip_norm, before)
        clients[client] = Client(terms, client, keys[client], policy)
    server = Server(terms)
    traffic = {} if traffic is None else traffic
    traffic |= {client: Traffic() for client in clients}
    inbox: dict[str, bytes] = dict.fromkeys(clients, b"")
    silent: set[str] = set()
    while server.stage is not Stage.DONE:
        silent |= (drop or {}).get(_name(server.stage), set())
        for client_id in sorted(inbox.keys() - silent):
            answer = _answer(clients[client_id], server.stage, inbox[client_id], vectors[client_id])
            traffic[client_id].down += len(inbox[client_id])
            traffic[client_id].up += len(answer)
            server.receive(answer)
        inbox = server.close_stage()
    return Aggregate(server.result(), server.survivors, traffic, server.answered)


def _answer(client: Client, stage: Stage, message: bytes, vector: RingVector) -> bytes:
    match stage:
        case Stage.ADVERTISE:
            return client.advertise()
        case Stage.SHARE_KEYS:
            return client.share_keys(message)
        case Stage.MASKED_INPUT:
            return client.masked_input(message, vector)
        case Stage.CONSENT:
            return client.consent(message)
        case _:
            return client.unmask(message)


def _name(stage: Stage) -> DropStage:
    names: dict[Stage, DropStage] = {
        Stage.ADVERTISE: "advertise",
        Stage.SHARE_KEYS: "share_keys",
        Stage.MASKED_INPUT: "masked_input",
        Stage.CONSENT: "consent",
        Stage.UNMASK: "unmask",
    }
    return names[stage]
