"""Runs the protocol up to a stage, keeping all that is said, so that tests can tamper with any of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from training.privacy.mechanisms.factory import promised_terms
from training.privacy.secure_aggregation.client import Client
from training.privacy.secure_aggregation.in_process import BARE, new_identities
from training.privacy.secure_aggregation.messages import RoundTerms
from training.privacy.secure_aggregation.policy import ClientPolicy
from training.privacy.secure_aggregation.server import Server, Stage
from training.settings.privacy import PrivacySettings


@dataclass
class Session:
    """Clients and server of one round, the server's last messages and the whole transcript."""

    terms: RoundTerms
    identities: Mapping[str, Ed25519PrivateKey]
    clients: dict[str, Client]
    server: Server
    vectors: dict[str, np.ndarray]
    inbox: dict[str, bytes]
    silent: set[str] = field(default_factory=set)
    transcript: list[bytes] = field(default_factory=list)

    def answer(self, client: str) -> bytes:
        """What the client says at the server's present stage."""
        member, message = self.clients[client], self.inbox[client]
        match self.server.stage:
            case Stage.ADVERTISE:
                return member.advertise()
            case Stage.SHARE_KEYS:
                return member.share_keys(message)
            case Stage.MASKED_INPUT:
                return member.masked_input(message, self.vectors[client])
            case Stage.CONSENT:
                return member.consent(message)
            case _:
                return member.unmask(message)

    def run_stage(self, drop: Set[str] = frozenset()) -> None:
        self.silent |= drop
        for client in sorted(self.inbox.keys() - self.silent):
            said = self.answer(client)
            self.transcript.append(said)
            self.server.receive(said)
        self.inbox = self.server.close_stage()
        self.transcript.extend(self.inbox.values())

    def run_until(self, stage: Stage) -> Session:
        while self.server.stage is not stage:
            self.run_stage()
        return self


def session(
    n: int = 5,
    threshold: int = 3,
    length: int = 8,
    bits: int = 64,
    seed: int = 0,
    identities: Mapping[str, Ed25519PrivateKey] | None = None,
    settings: PrivacySettings = BARE,
    directory: Mapping[str, bytes] | None = None,
    taken_part: Iterable[int] = (),
    **terms: Any,
) -> Session:
    """A round of clients c0000, c0001 … who joined under `settings` and C = 1; its terms keep that, but for `terms`."""
    names = [f"c{i:04d}" for i in range(n)]
    identities = identities or new_identities(set(names))
    generator = np.random.default_rng(seed)
    roster = {name: key.public_key().public_bytes_raw() for name, key in identities.items()}
    kept = {
        "run_id": "test",
        "round_number": 1,
        "roster": roster,
        "threshold": threshold,
        "length": length,
        "bits": bits,
        "tolerated_colluders": settings.colluders_among(n),
        "minimum_survivors": settings.minimum_survivors(n),
        "mechanism": promised_terms(settings, n, 1.0),
        "max_participation": settings.max_participation,
    }
    agreed = RoundTerms(**{**kept, **terms})

    def policy() -> ClientPolicy:
        return ClientPolicy(settings, directory or roster, "test", 1.0, set(taken_part))

    return Session(
        terms=agreed,
        identities=identities,
        clients={name: Client(agreed, name, identities[name], policy()) for name in names},
        server=Server(agreed),
        vectors={name: generator.integers(0, 2**bits, length, dtype=agreed.ring.dtype) for name in names},
        inbox=dict.fromkeys(names, b""),
    )
