"""Runs the protocol up to a stage, keeping all that is said, so that tests can tamper with any of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from training.privacy.secure_aggregation.client import Client
from training.privacy.secure_aggregation.in_process import new_identities
from training.privacy.secure_aggregation.messages import RoundTerms
from training.privacy.secure_aggregation.server import Server, Stage


@dataclass
class Session:
    """Clients and server of one round, the server's last messages and the whole transcript."""

    terms: RoundTerms
    identities: dict
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

    def run_stage(self, drop: set[str] = frozenset()) -> None:
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
    n: int = 5, threshold: int = 3, length: int = 8, bits: int = 64, seed: int = 0, identities=None, **terms
) -> Session:
    names = [f"c{i:04d}" for i in range(n)]
    identities = identities or new_identities(set(names))
    generator = np.random.default_rng(seed)
    agreed = RoundTerms(
        run_id=terms.get("run_id", "test"),
        round_number=terms.get("round_number", 1),
        roster={name: identities[name].public_key().public_bytes_raw() for name in names},
        threshold=threshold,
        length=length,
        bits=bits,
    )
    return Session(
        terms=agreed,
        identities=identities,
        clients={name: Client(agreed, name, identities[name]) for name in names},
        server=Server(agreed),
        vectors={name: generator.integers(0, 2**bits, length, dtype=agreed.ring.dtype) for name in names},
        inbox=dict.fromkeys(names, b""),
    )
