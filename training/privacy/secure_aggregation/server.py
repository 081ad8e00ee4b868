"""The server's side of the protocol: it collects the messages of each stage and ends with the sum of the survivors."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from training.privacy.mechanisms.grid import RingVector
from training.privacy.secure_aggregation import payloads, shamir
from training.privacy.secure_aggregation.keys import pairwise_mask_key, raw_public_key, self_mask_key
from training.privacy.secure_aggregation.masking import add_masks
from training.privacy.secure_aggregation.messages import (
    Kind,
    ProtocolError,
    Reader,
    RoundAbortedError,
    RoundTerms,
    encode_places,
    frame,
    open_envelope,
)
from training.privacy.secure_aggregation.payloads import PublicKeys, Secret


class Stage(IntEnum):
    """What the server is waiting for; the names are those of the client's calls."""

    ADVERTISE = 0
    SHARE_KEYS = 1
    MASKED_INPUT = 2
    CONSENT = 3
    UNMASK = 4
    DONE = 5


_EXPECTED = {
    Stage.ADVERTISE: Kind.KEYS,
    Stage.SHARE_KEYS: Kind.SHARES,
    Stage.MASKED_INPUT: Kind.MASKED_INPUT,
    Stage.CONSENT: Kind.CONSENT,
    Stage.UNMASK: Kind.UNMASK_SHARES,
}


class Server:
    """One round: call `receive` with each client's message, and `close_stage` when no more are awaited.

    Below the terms' floor of survivors the round is abandoned before anything is opened: the noise would fall short.
    A message that is refused leaves the server as it was: the client may be heard again, or counts as dropped.
    """

    def __init__(self, terms: RoundTerms) -> None:
        self.terms = terms
        self.stage = Stage.ADVERTISE
        self._taking_part = frozenset(terms.clients)  # who may speak in this stage
        self._heard: dict[str, bytes] = {}  # who has spoken, with the message where it is relayed
        self._keys: dict[str, PublicKeys] = {}  # U1
        self._commitments: dict[str, bytes] = {}  # U2
        self._boxes: dict[str, dict[str, bytes]] = {}  # sender → recipient → ciphertext
        self._total: RingVector = np.zeros(terms.length, dtype=terms.ring.dtype)
        self._survivors: frozenset[str] = frozenset()  # U3
        self._dropped: frozenset[str] = frozenset()  # U2 without U3
        self._revealed: dict[str, payloads.RevealedShares] = {}  # U5

    def receive(self, message: bytes) -> str:
        """Take in one client's message of this stage and return its sender; ProtocolError where it is refused."""
        if self.stage is Stage.DONE:
            raise ProtocolError("?", "a message after the round was over")
        sender, payload = open_envelope(message, _EXPECTED[self.stage], self.terms, self._largest_payload())
        if sender in self._heard:
            raise ProtocolError(sender, "sent a second message in one stage")
        if sender not in self._taking_part:
            raise ProtocolError(sender, f"takes part in {self.stage.name} after having dropped out")
        match self.stage:
            case Stage.ADVERTISE:
                self._keys[sender] = payloads.decode_keys(payload, sender)
            case Stage.SHARE_KEYS:
                self._take_shares(sender, payload)
            case Stage.MASKED_INPUT:
                self._take_masked(sender, payload)
            case Stage.CONSENT:
                if payload != payloads.survivors_digest(self.terms, self._survivors):
                    raise ProtocolError(sender, "consented to another set of survivors")
            case Stage.UNMASK:
                self._take_revealed(sender, payload)
        relayed = self.stage in (Stage.ADVERTISE, Stage.CONSENT)
        self._heard[sender] = message if relayed else b""
        return sender

    def close_stage(self) -> dict[str, bytes]:
        """End the stage with the clients heard so far, and return the next message for each of them.

        After UNMASK there are no messages, and `result` has the sum. RoundAbortedError where too few are left.
        """
        left = frozenset(self._heard)
        needed = self.terms.floor if self.stage <= Stage.MASKED_INPUT else self.terms.threshold
        if len(left) < needed:
            stage, self.stage = self.stage, Stage.DONE
            raise RoundAbortedError(stage.name.lower(), len(left), needed)
        answers: dict[str, bytes] = {}
        match self.stage:
            case Stage.ADVERTISE:
                answers = self._to_all(left, Kind.KEY_LIST, payloads.encode_envelopes(list(self._heard.values())))
            case Stage.SHARE_KEYS:
                answers = {recipient: self._shares_for(recipient) for recipient in left}
            case Stage.MASKED_INPUT:
                self._survivors, self._dropped = left, frozenset(self._commitments) - left
                answers = self._to_all(left, Kind.SURVIVORS, encode_places(self.terms, left))
            case Stage.CONSENT:
                request = encode_places(self.terms, self._survivors) + encode_places(self.terms, self._dropped)
                consents = payloads.encode_envelopes(list(self._heard.values()))
                answers = self._to_all(left, Kind.UNMASK_REQUEST, request + consents)
            case Stage.UNMASK:
                self._remove_masks()
        self._heard, self._taking_part = {}, left
        self.stage = Stage(self.stage + 1)
        return answers

    @property
    def survivors(self) -> frozenset[str]:
        """Whose vectors the sum holds (U3)."""
        return self._survivors

    @property
    def answered(self) -> int:
        """How many clients gave shares to open the sum (U5)."""
        return len(self._revealed)

    def result(self) -> RingVector:
        """Σ of the survivors' vectors, ring elements [length]."""
        if self.stage is not Stage.DONE or not self._revealed:
            raise ProtocolError("server", "the sum was asked for before the round ended well")
        return self._total

    def _to_all(self, clients: frozenset[str], kind: Kind, payload: bytes) -> dict[str, bytes]:
        message = frame(kind, self.terms, payload)
        return dict.fromkeys(sorted(clients), message)

    def _largest_payload(self) -> int:
        terms = self.terms
        return {
            Stage.ADVERTISE: payloads.KEYS_BYTES,
            Stage.SHARE_KEYS: payloads.DIGEST_BYTES + payloads.list_bytes(terms, 2 + payloads.SEALED_SHARES_BYTES),
            Stage.MASKED_INPUT: terms.vector_bytes,
            Stage.CONSENT: payloads.DIGEST_BYTES,
            Stage.UNMASK: payloads.list_bytes(terms, 3 + shamir.SHARE_BYTES),
        }[self.stage]

    def _take_shares(self, sender: str, payload: bytes) -> None:
        reader = Reader(payload, sender)
        commitment = reader.take(payloads.DIGEST_BYTES)
        boxes = payloads.read_addressed(reader, self.terms, sender)
        reader.end()
        if boxes.keys() != self._keys.keys() - {sender}:
            raise ProtocolError(sender, "did not send shares to exactly the clients whose keys were listed")
        self._commitments[sender], self._boxes[sender] = commitment, boxes

    def _shares_for(self, recipient: str) -> bytes:
        boxes = {sender: sent[recipient] for sender, sent in self._boxes.items() if sender != recipient}
        return frame(Kind.SHARE_LIST, self.terms, payloads.encode_addressed(self.terms, boxes))

    def _take_masked(self, sender: str, payload: bytes) -> None:
        if len(payload) != self.terms.vector_bytes:
            raise ProtocolError(sender, f"masked vector has {len(payload)} bytes, not {self.terms.vector_bytes}")
        # Added at once: the server needs only the sum, and a cohort of long vectors would not fit in memory.
        np.add(self._total, np.frombuffer(payload, dtype=self.terms.ring.dtype), out=self._total)

    def _take_revealed(self, sender: str, payload: bytes) -> None:
        revealed = payloads.decode_revealed(payload, self.terms, sender)
        wanted = {(c, Secret.SELF_MASK) for c in self._survivors} | {(c, Secret.MASK_KEY) for c in self._dropped}
        if revealed.keys() != wanted:
            raise ProtocolError(sender, "did not send exactly the shares it was asked for")
        self._revealed[sender] = revealed

    def _remove_masks(self) -> None:
        """Subtract the survivors' own masks, and the pairwise masks that the dropped clients left uncancelled."""
        terms = self.terms
        plus: list[bytes] = []
        minus: list[bytes] = []
        for client in self._survivors:
            seed = self._combine(client, Secret.SELF_MASK)
            if payloads.self_mask_commitment(terms, client, seed) != self._commitments[client]:
                raise self._wrong_shares(client)
            minus.append(self_mask_key(terms, seed))
        for client in self._dropped:
            mask_key = X25519PrivateKey.from_private_bytes(self._combine(client, Secret.MASK_KEY))
            if raw_public_key(mask_key) != self._keys[client].mask:
                raise self._wrong_shares(client)
            for peer in self._survivors:
                key = pairwise_mask_key(terms, mask_key, self._keys[peer].mask, client, peer)
                (minus if terms.places[peer] < terms.places[client] else plus).append(key)
        add_masks(self._total, plus, minus)

    def _combine(self, owner: str, secret: Secret) -> bytes:
        holders = sorted(self._revealed)[: self.terms.threshold]
        try:
            return shamir.combine({self.terms.places[h]: self._revealed[h][owner, secret] for h in holders})
        except ValueError as error:
            raise self._wrong_shares(owner) from error

    def _wrong_shares(self, owner: str) -> ProtocolError:
        holders = ", ".join(sorted(self._revealed)[: self.terms.threshold])
        return ProtocolError(owner, f"its secret does not come back from its shares: it, or one of {holders}, lied")
