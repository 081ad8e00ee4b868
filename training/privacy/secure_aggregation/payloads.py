"""The payloads inside the envelopes and frames, each with its encoder, decoder and largest size."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum

from training.privacy.secure_aggregation.messages import (
    ENVELOPE_OVERHEAD,
    ProtocolError,
    Reader,
    RoundTerms,
    encode_place,
    encode_places,
)
from training.privacy.secure_aggregation.shamir import SHARE_BYTES

PUBLIC_KEY_BYTES = 32
KEYS_BYTES = 2 * PUBLIC_KEY_BYTES
DIGEST_BYTES = 32
PAIR_OF_SHARES_BYTES = 2 * SHARE_BYTES
SEALED_SHARES_BYTES = PAIR_OF_SHARES_BYTES + 16  # ChaCha20-Poly1305's tag
KEYS_ENVELOPE_BYTES = ENVELOPE_OVERHEAD + KEYS_BYTES
CONSENT_ENVELOPE_BYTES = ENVELOPE_OVERHEAD + DIGEST_BYTES


class Secret(IntEnum):
    """Which of a client's two secrets a share belongs to; nobody may ever learn both."""

    SELF_MASK = 1  # seed of its own mask: opened when its vector is in the sum
    MASK_KEY = 2  # X25519 key of its pairwise masks: opened when its vector is not in the sum


@dataclass(frozen=True)
class PublicKeys:
    """A client's one-round X25519 public keys, raw."""

    channel: bytes  # encrypts shares
    mask: bytes  # agrees on pairwise masks


def encode_keys(keys: PublicKeys) -> bytes:
    return keys.channel + keys.mask


def decode_keys(payload: bytes, sender: str) -> PublicKeys:
    reader = Reader(payload, sender)
    keys = PublicKeys(reader.take(PUBLIC_KEY_BYTES), reader.take(PUBLIC_KEY_BYTES))
    reader.end()
    return keys


def list_bytes(terms: RoundTerms, entry_bytes: int) -> int:
    """The largest size of a counted list with at most one entry a client."""
    return 2 + len(terms.clients) * entry_bytes


def encode_envelopes(envelopes: list[bytes]) -> bytes:
    return struct.pack("<H", len(envelopes)) + b"".join(envelopes)


def read_envelopes(reader: Reader, terms: RoundTerms, envelope_bytes: int) -> list[bytes]:
    return [reader.take(envelope_bytes) for _ in range(reader.count(len(terms.clients)))]


def encode_addressed(terms: RoundTerms, entries: dict[str, bytes]) -> bytes:
    """A list of ciphertexts, each with the client it goes to (or comes from), in ascending order."""
    ordered = sorted(entries.items())
    return struct.pack("<H", len(ordered)) + b"".join(encode_place(terms, who) + box for who, box in ordered)


def read_addressed(reader: Reader, terms: RoundTerms, sender: str) -> dict[str, bytes]:
    entries: dict[str, bytes] = {}
    for _ in range(reader.count(len(terms.clients))):
        who = reader.place(terms)
        if who in entries:
            raise ProtocolError(sender, f"message names {who} twice")
        entries[who] = reader.take(SEALED_SHARES_BYTES)
    return entries


def survivors_digest(terms: RoundTerms, survivors: frozenset[str]) -> bytes:
    """The digest that a client signs to consent to opening the sum of exactly these clients."""
    return hashlib.sha256(b"survivors" + terms.context + encode_places(terms, survivors)).digest()


def self_mask_commitment(terms: RoundTerms, client: str, seed: bytes) -> bytes:
    """Binds a client to its 256-bit seed without revealing it: wrong shares are noticed when the sum is opened."""
    return hashlib.sha256(b"self mask" + terms.context + encode_place(terms, client) + seed).digest()


RevealedShares = dict[tuple[str, Secret], bytes]


def encode_revealed(terms: RoundTerms, shares: RevealedShares) -> bytes:
    entries = [
        encode_place(terms, owner) + bytes([secret]) + share for (owner, secret), share in sorted(shares.items())
    ]
    return struct.pack("<H", len(entries)) + b"".join(entries)


def decode_revealed(payload: bytes, terms: RoundTerms, sender: str) -> RevealedShares:
    reader = Reader(payload, sender)
    shares: RevealedShares = {}
    for _ in range(reader.count(len(terms.clients))):
        owner = reader.place(terms)
        kind = reader.take(1)[0]
        if kind not in (Secret.SELF_MASK, Secret.MASK_KEY):
            raise ProtocolError(sender, f"message holds a share of an unknown secret ({kind})")
        if any(known == owner for known, _ in shares):
            raise ProtocolError(sender, f"message holds two shares of {owner}")
        shares[owner, Secret(kind)] = reader.take(SHARE_BYTES)
    reader.end()
    return shares
