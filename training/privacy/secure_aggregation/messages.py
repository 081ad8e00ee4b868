"""The protocol's messages: the round's terms, signed envelopes of clients, frames of the server, strict decoders.

Every byte string is checked before anything is allocated for it: its length must be exactly what the terms and
its own counts say. Whatever is wrong raises ProtocolError, which names the client it concerns.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from itertools import pairwise
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.errors import PrivFedTalkError
from training.privacy.mechanisms.base import MechanismTerms
from training.privacy.mechanisms.grid import Ring

_MAGIC = b"PFSA"
_SIGNED_PURPOSE = b"PrivFedTalk secure aggregation, message of a client, version 1"
_HEADER = struct.Struct("<4sBH32sI")  # magic, kind, sender, context, payload length
_FRAME_HEADER = struct.Struct("<4sB32s")  # magic, kind, context
SIGNATURE_BYTES = 64
ENVELOPE_OVERHEAD = _HEADER.size + SIGNATURE_BYTES
MAXIMUM_CLIENTS = 2**12
MAXIMUM_LENGTH = 2**31  # elements of a vector


class ProtocolError(PrivFedTalkError):
    """A message or a request that the protocol does not allow. `client` is the party that it concerns:
    a client's id, "server" where the server is at fault, "?" where the bytes do not say who sent them."""

    def __init__(self, client: str, reason: str) -> None:
        super().__init__(
            f"secure aggregation, {client}: {reason}",
            remedy="leave this client out of the round; if it happens again, check its software and its identity key",
        )
        self.client = client


class RoundAbortedError(ProtocolError):
    """Too few clients are left; nothing was opened and the model must stay as it was."""

    def __init__(self, stage: str, left: int, needed: int) -> None:
        super().__init__("server", f"round aborted at stage '{stage}': {left} clients left, {needed} needed")
        self.stage, self.left, self.needed = stage, left, needed


class Kind(IntEnum):
    """Messages of clients are odd, frames of the server even; in the order of the rounds."""

    KEYS = 1
    KEY_LIST = 2
    SHARES = 3
    SHARE_LIST = 4
    MASKED_INPUT = 5
    SURVIVORS = 6
    CONSENT = 7
    UNMASK_REQUEST = 8
    UNMASK_SHARES = 9


@dataclass(frozen=True)
class RoundTerms:
    """What all parties must agree on before a round; its hash is bound into every signature, key and ciphertext.

    roster: client id → raw Ed25519 public key (32 bytes). A client's place, from 1, is its rank among the sorted
    ids: it serves as its Shamir x-coordinate and as its name on the wire.
    threshold: t, how many shares open a secret. tolerated_colluders: c, clients who may work with the server. It must
    be below 2t − n, against a server that names different survivors to different clients: colluders answer both
    requests and each honest client one, so that 2(t − c) ≤ n − c honest clients would be enough to open both secrets of
    a victim.
    minimum_survivors: the floor below which the noise falls short and no client helps to open the sum.
    """

    run_id: str
    round_number: int
    roster: dict[str, bytes] = field(hash=False)
    threshold: int
    length: int  # elements of a vector
    bits: Literal[32, 64] = 64
    tolerated_colluders: int = 0
    minimum_survivors: int = 0
    mechanism: MechanismTerms = field(default_factory=MechanismTerms)
    max_participation: int | None = None  # rounds that one client may take part in

    def __post_init__(self) -> None:
        n = len(self.roster)
        if not 2 <= n <= MAXIMUM_CLIENTS:
            raise PrivFedTalkError(
                f"secure aggregation among {n} clients", remedy=f"take 2 to {MAXIMUM_CLIENTS} clients into a round"
            )
        c = self.tolerated_colluders
        if not 0 <= c < n:
            raise PrivFedTalkError(
                f"{c} tolerated colluders among {n} clients", remedy=f"tolerate at most {n - 1}, or take more clients"
            )
        if not c < 2 * self.threshold - n or self.threshold > n:
            raise PrivFedTalkError(
                f"threshold {self.threshold} among {n} clients of whom {c} may collude: a server that names "
                "different survivors to different clients could open two sums",
                remedy=f"choose a threshold from {(n + c) // 2 + 1} to {n}",
            )
        if not 0 <= self.minimum_survivors <= n:
            raise PrivFedTalkError(
                f"a floor of {self.minimum_survivors} survivors among {n} clients", remedy=f"choose one up to {n}"
            )
        numbers = (self.mechanism.clip_norm, self.mechanism.grid, self.mechanism.share_variance)
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise PrivFedTalkError(f"a round of {self.mechanism}", remedy="give finite numbers, none below 0")
        if not 1 <= self.length <= MAXIMUM_LENGTH or self.bits not in (32, 64):
            raise PrivFedTalkError(
                f"vectors of {self.length} elements of {self.bits} bits",
                remedy="use 32 or 64 bits, up to 2^31 elements",
            )
        if any(len(key) != 32 for key in self.roster.values()):
            raise PrivFedTalkError("an identity key is not 32 bytes", remedy="give raw Ed25519 public keys")
        if len(set(self.roster.values())) != n:
            raise PrivFedTalkError("two clients share an identity key", remedy="give every client its own")

    @cached_property
    def clients(self) -> tuple[str, ...]:
        return tuple(sorted(self.roster))

    @cached_property
    def places(self) -> dict[str, int]:
        return {client: place for place, client in enumerate(self.clients, start=1)}

    @cached_property
    def context(self) -> bytes:
        """SHA-256 of the terms, each part with its length before it so that no two terms read alike."""
        cap, mechanism = self.max_participation or 0, self.mechanism
        parts = [
            self.run_id.encode(),
            struct.pack("<QIQB", self.round_number, self.threshold, self.length, self.bits),
            struct.pack("<IIQ", self.tolerated_colluders, self.floor, cap),
            struct.pack("<ddd", mechanism.clip_norm, mechanism.grid, mechanism.share_variance),
        ]
        for client in self.clients:
            parts += [client.encode(), self.roster[client]]
        digest = hashlib.sha256(b"PrivFedTalk secure aggregation terms, version 2")
        for part in parts:
            digest.update(struct.pack("<I", len(part)) + part)
        return digest.digest()

    @property
    def floor(self) -> int:
        """The fewest survivors whose sum is opened; at least the threshold."""
        return max(self.threshold, self.minimum_survivors)

    @property
    def ring(self) -> Ring:
        return Ring(self.bits)

    @property
    def vector_bytes(self) -> int:
        return self.length * self.bits // 8

    def client_at(self, place: int) -> str:
        return self.clients[place - 1]


class Reader:
    """Reads a message from left to right; ProtocolError, with the sender at fault, where it is too short."""

    def __init__(self, data: bytes | memoryview, sender: str) -> None:
        self._left = memoryview(data)
        self._sender = sender

    def take(self, count: int) -> bytes:
        if count > len(self._left):
            raise ProtocolError(self._sender, f"message ends {count - len(self._left)} bytes early")
        taken, self._left = self._left[:count], self._left[count:]
        return taken.tobytes()

    def count(self, largest: int) -> int:
        value = int.from_bytes(self.take(2), "little")
        if value > largest:
            raise ProtocolError(self._sender, f"message announces {value} entries where at most {largest} may be")
        return value

    def place(self, terms: RoundTerms) -> str:
        value = int.from_bytes(self.take(2), "little")
        if not 1 <= value <= len(terms.clients):
            raise ProtocolError(self._sender, f"message names place {value}, which no client holds")
        return terms.client_at(value)

    def places(self, terms: RoundTerms) -> list[str]:
        """A list of clients, strictly ascending, so that one set has one encoding."""
        named = [self.place(terms) for _ in range(self.count(len(terms.clients)))]
        if any(a >= b for a, b in pairwise(named)):
            raise ProtocolError(self._sender, "a list of clients is not in ascending order without repeats")
        return named

    def end(self) -> None:
        if len(self._left):
            raise ProtocolError(self._sender, f"message has {len(self._left)} bytes too many")


def encode_places(terms: RoundTerms, clients: set[str] | frozenset[str]) -> bytes:
    """The encoding that `Reader.places` reads."""
    places = sorted(terms.places[client] for client in clients)
    return struct.pack(f"<H{len(places)}H", len(places), *places)


def encode_place(terms: RoundTerms, client: str) -> bytes:
    return struct.pack("<H", terms.places[client])


def _signed_text(header: bytes, payload: bytes) -> bytes:
    # Ed25519 reads its text twice; a hash of a long payload is read once and binds as much.
    return _SIGNED_PURPOSE + header + hashlib.sha256(payload).digest()


def seal(kind: Kind, terms: RoundTerms, sender: str, payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """A client's message: header, payload, Ed25519 signature over purpose, header and the payload's SHA-256."""
    header = _HEADER.pack(_MAGIC, kind, terms.places[sender], terms.context, len(payload))
    return b"".join((header, payload, key.sign(_signed_text(header, payload))))


def open_envelope(data: bytes, kind: Kind, terms: RoundTerms, largest_payload: int) -> tuple[str, bytes]:
    """(sender, payload) of a client's message, or ProtocolError: wrong size, round, kind, sender or signature."""
    if len(data) < ENVELOPE_OVERHEAD:
        raise ProtocolError("?", f"a message of {len(data)} bytes is shorter than any message")
    magic, found_kind, place, context, payload_bytes = _HEADER.unpack_from(data)
    sender = _claimed_sender(data, terms)
    if magic != _MAGIC:
        raise ProtocolError(sender, "not a message of this protocol")
    if sender == "?":
        raise ProtocolError(sender, f"message names place {place}, which no client holds")
    if context != terms.context:
        raise ProtocolError(sender, "message belongs to another round or to other terms")
    if found_kind != kind:
        raise ProtocolError(sender, f"message of kind {found_kind} where {kind.name} was due")
    if len(data) > ENVELOPE_OVERHEAD + largest_payload:
        raise ProtocolError(sender, f"message of {len(data)} bytes is longer than allowed")
    if payload_bytes != len(data) - ENVELOPE_OVERHEAD:
        raise ProtocolError(sender, "message is truncated or padded")
    header, payload = data[: _HEADER.size], data[_HEADER.size : -SIGNATURE_BYTES]
    try:
        Ed25519PublicKey.from_public_bytes(terms.roster[sender]).verify(
            data[-SIGNATURE_BYTES:], _signed_text(header, payload)
        )
    except (InvalidSignature, ValueError) as error:
        raise ProtocolError(sender, "signature does not fit the message and the client's identity key") from error
    return sender, payload


def _claimed_sender(data: bytes, terms: RoundTerms) -> str:
    place = _HEADER.unpack_from(data)[2]
    return terms.client_at(place) if 1 <= place <= len(terms.clients) else "?"


def frame(kind: Kind, terms: RoundTerms, payload: bytes) -> bytes:
    """A message of the server. It is not signed: clients believe only what other clients signed or encrypted."""
    return _FRAME_HEADER.pack(_MAGIC, kind, terms.context) + payload


def open_frame(data: bytes, kind: Kind, terms: RoundTerms, largest_payload: int) -> Reader:
    """A reader at the start of the payload of a server's message."""
    if not _FRAME_HEADER.size <= len(data) <= _FRAME_HEADER.size + largest_payload:
        raise ProtocolError("server", f"message of {len(data)} bytes is shorter or longer than allowed")
    magic, found_kind, context = _FRAME_HEADER.unpack_from(data)
    if magic != _MAGIC or context != terms.context:
        raise ProtocolError("server", "message belongs to another protocol, round or terms")
    if found_kind != kind:
        raise ProtocolError("server", f"message of kind {found_kind} where {kind.name} was due")
    return Reader(memoryview(data)[_FRAME_HEADER.size :], "server")
