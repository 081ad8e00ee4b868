"""A client's side of the protocol: five calls, each of which takes the server's last message and returns the answer."""

from __future__ import annotations

import os
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from common.errors import PrivFedTalkError
from training.privacy.mechanisms.grid import RingVector
from training.privacy.secure_aggregation import payloads, shamir
from training.privacy.secure_aggregation.keys import (
    channel_key,
    pairwise_mask_key,
    raw_public_key,
    self_mask_key,
    shares_associated_data,
    shares_nonce,
)
from training.privacy.secure_aggregation.masking import add_masks
from training.privacy.secure_aggregation.messages import (
    Kind,
    ProtocolError,
    Reader,
    RoundTerms,
    open_envelope,
    open_frame,
    seal,
)
from training.privacy.secure_aggregation.payloads import PublicKeys, Secret
from training.privacy.secure_aggregation.policy import ClientPolicy


class _Stage(IntEnum):
    START = 0
    ADVERTISED = 1
    SHARED = 2
    MASKED = 3
    CONSENTED = 4
    FINISHED = 5


class Client:
    """One client in one round. A call out of turn, or a second call, raises ProtocolError: no secret is used twice.

    The terms are checked against `policy`, what the client was promised before the round, and ProtocolError is raised
    where they promise less. All one-round secrets come from the operating system and live as long as the object.
    """

    def __init__(self, terms: RoundTerms, client_id: str, identity: Ed25519PrivateKey, policy: ClientPolicy) -> None:
        if client_id not in terms.roster or identity.public_key().public_bytes_raw() != terms.roster[client_id]:
            raise PrivFedTalkError(
                f"{client_id} is not in the round's roster under this identity key",
                remedy="register the client's public key before the round",
            )
        policy.check(terms)
        self.terms, self.client_id, self._policy = terms, client_id, policy
        self._identity = identity
        self._stage = _Stage.START
        self._channel_key = X25519PrivateKey.generate()
        self._mask_key = X25519PrivateKey.generate()
        self._self_mask_seed = os.urandom(shamir.SECRET_BYTES)
        self._peers: dict[str, PublicKeys] = {}  # U1 without this client
        self._channels: dict[str, ChaCha20Poly1305] = {}
        self._shares_held: dict[str, dict[Secret, bytes]] = {}  # one share of each secret of every client in U2
        self._survivors: frozenset[str] = frozenset()  # U3

    def advertise(self) -> bytes:
        """Round 0. Sends two fresh public keys, signed."""
        self._enter(_Stage.ADVERTISED)
        keys = PublicKeys(raw_public_key(self._channel_key), raw_public_key(self._mask_key))
        return self._seal(Kind.KEYS, payloads.encode_keys(keys))

    def share_keys(self, key_list: bytes) -> bytes:
        """Round 1. Checks everybody's signed keys; shares both secrets, encrypted, among all who advertised (U1)."""
        terms = self.terms
        largest = payloads.list_bytes(terms, payloads.KEYS_ENVELOPE_BYTES)
        reader = open_frame(key_list, Kind.KEY_LIST, terms, largest)
        advertised: dict[str, PublicKeys] = {}
        for envelope in payloads.read_envelopes(reader, terms, payloads.KEYS_ENVELOPE_BYTES):
            sender, payload = open_envelope(envelope, Kind.KEYS, terms, payloads.KEYS_BYTES)
            if sender in advertised:
                raise ProtocolError(sender, "keys are listed twice")
            advertised[sender] = payloads.decode_keys(payload, sender)
        reader.end()
        self._require_enough("advertise", set(advertised))
        own = PublicKeys(raw_public_key(self._channel_key), raw_public_key(self._mask_key))
        if advertised[self.client_id] != own:
            raise ProtocolError("server", f"lists other keys for {self.client_id} than it sent")
        if len({key for keys in advertised.values() for key in (keys.channel, keys.mask)}) != 2 * len(advertised):
            raise ProtocolError("server", "lists one key twice")
        self._enter(_Stage.SHARED)

        self._peers = {peer: keys for peer, keys in advertised.items() if peer != self.client_id}
        self._channels = {
            peer: ChaCha20Poly1305(channel_key(terms, self._channel_key, keys.channel, self.client_id, peer))
            for peer, keys in self._peers.items()
        }
        mask_key = self._mask_key.private_bytes_raw()
        places = {peer: terms.places[peer] for peer in advertised}
        mask_key_shares = shamir.split(mask_key, terms.threshold, places.values())
        seed_shares = shamir.split(self._self_mask_seed, terms.threshold, places.values())
        self._shares_held[self.client_id] = {
            Secret.SELF_MASK: seed_shares[places[self.client_id]],
            Secret.MASK_KEY: mask_key_shares[places[self.client_id]],
        }
        boxes = {
            peer: self._channels[peer].encrypt(
                shares_nonce(terms, self.client_id, peer),
                seed_shares[places[peer]] + mask_key_shares[places[peer]],
                shares_associated_data(terms, self.client_id, peer),
            )
            for peer in self._peers
        }
        commitment = payloads.self_mask_commitment(terms, self.client_id, self._self_mask_seed)
        return self._seal(Kind.SHARES, commitment + payloads.encode_addressed(terms, boxes))

    def masked_input(self, share_list: bytes, vector: RingVector) -> bytes:
        """Round 2. Opens the shares of those who sent them (U2) and sends the vector under all masks.

        vector: ring elements [length]. y = x + mask(b_u) + Σ_{v > u} mask(s_uv) − Σ_{v < u} mask(s_uv) over U2.
        """
        terms = self.terms
        if vector.shape != (terms.length,) or vector.dtype != terms.ring.dtype:
            raise PrivFedTalkError(
                f"{self.client_id} has a vector of {vector.dtype} {list(vector.shape)}",
                remedy=f"give {terms.ring.dtype} [{terms.length}], as the round's terms say",
            )
        entry = 2 + payloads.SEALED_SHARES_BYTES
        reader = open_frame(share_list, Kind.SHARE_LIST, terms, payloads.list_bytes(terms, entry))
        boxes = payloads.read_addressed(reader, terms, "server")
        reader.end()
        if not boxes.keys() <= self._peers.keys():
            raise ProtocolError("server", "relays shares of a client whose keys it never listed")
        self._require_enough("share_keys", set(boxes) | {self.client_id})
        opened = {peer: self._open_shares(peer, box) for peer, box in boxes.items()}
        self._enter(_Stage.MASKED)
        self._policy.take_part(terms)
        self._shares_held |= opened

        plus = [self_mask_key(terms, self._self_mask_seed)]
        minus: list[bytes] = []
        for peer in boxes:
            key = pairwise_mask_key(terms, self._mask_key, self._peers[peer].mask, self.client_id, peer)
            (plus if terms.places[self.client_id] < terms.places[peer] else minus).append(key)
        masked = vector.copy()
        add_masks(masked, plus, minus)
        return self._seal(Kind.MASKED_INPUT, masked.tobytes())

    def consent(self, survivors: bytes) -> bytes:
        """Round 3. Signs the one set of survivors (U3) that this client will help to open."""
        terms = self.terms
        reader = open_frame(survivors, Kind.SURVIVORS, terms, payloads.list_bytes(terms, 2))
        named = frozenset(reader.places(terms))
        reader.end()
        if not named <= self._shares_held.keys():
            raise ProtocolError("server", "names survivors who never shared their keys")
        self._require_enough("masked_input", named)
        self._enter(_Stage.CONSENTED)
        self._survivors = named
        return self._seal(Kind.CONSENT, payloads.survivors_digest(terms, named))

    def unmask(self, request: bytes) -> bytes:
        """Round 4. Sends one share for each client: of a survivor's self mask, of a dropped client's mask key.

        Refused unless the two sets are disjoint and together are U2, the survivors are those that this client consented
        to, and at least `threshold` clients consented to the same.
        """
        terms = self.terms
        largest = 2 * payloads.list_bytes(terms, 2) + payloads.list_bytes(terms, payloads.CONSENT_ENVELOPE_BYTES)
        reader = open_frame(request, Kind.UNMASK_REQUEST, terms, largest)
        survivors, dropped = frozenset(reader.places(terms)), frozenset(reader.places(terms))
        consents = payloads.read_envelopes(reader, terms, payloads.CONSENT_ENVELOPE_BYTES)
        reader.end()
        if survivors & dropped:
            both = ", ".join(sorted(survivors & dropped))
            raise ProtocolError("server", f"asks for both kinds of shares of {both}, which would expose their vectors")
        if survivors != self._survivors or self._stage is not _Stage.CONSENTED:
            raise ProtocolError("server", "asks to open another set of survivors than this client consented to")
        if survivors | dropped != self._shares_held.keys():
            raise ProtocolError("server", "names other clients than those who shared their keys")
        self._check_consents(consents, survivors)
        self._enter(_Stage.FINISHED)
        wanted = [(c, Secret.SELF_MASK) for c in survivors] + [(c, Secret.MASK_KEY) for c in dropped]
        revealed = {(owner, secret): self._shares_held[owner][secret] for owner, secret in wanted}
        return self._seal(Kind.UNMASK_SHARES, payloads.encode_revealed(terms, revealed))

    def _check_consents(self, consents: list[bytes], survivors: frozenset[str]) -> None:
        digest = payloads.survivors_digest(self.terms, survivors)
        consenting = set()
        for envelope in consents:
            sender, payload = open_envelope(envelope, Kind.CONSENT, self.terms, payloads.DIGEST_BYTES)
            if payload != digest:
                raise ProtocolError(sender, "consented to another set of survivors")
            consenting.add(sender)
        if not consenting <= survivors or len(consenting) < self.terms.threshold:
            raise ProtocolError(
                "server", f"shows the consent of {len(consenting)} survivors where {self.terms.threshold} are needed"
            )

    def _enter(self, stage: _Stage) -> None:
        if self._stage != stage - 1:
            raise ProtocolError("server", f"asks {self.client_id} for {stage.name} after {self._stage.name}")
        self._stage = stage

    def _require_enough(self, stage: str, clients: set[str] | frozenset[str]) -> None:
        if self.client_id not in clients:
            raise ProtocolError("server", f"left {self.client_id} out after stage {stage} and still asks it")
        if len(clients) < self.terms.floor:  # their noise would fall short
            raise ProtocolError("server", f"goes on after {stage} with {len(clients)} of {self.terms.floor} clients")

    def _seal(self, kind: Kind, payload: bytes) -> bytes:
        return seal(kind, self.terms, self.client_id, payload, self._identity)

    def _open_shares(self, peer: str, box: bytes) -> dict[Secret, bytes]:
        try:
            pair = self._channels[peer].decrypt(
                shares_nonce(self.terms, peer, self.client_id),
                box,
                shares_associated_data(self.terms, peer, self.client_id),
            )
        except InvalidTag as error:
            raise ProtocolError(peer, f"its shares for {self.client_id} were tampered with or replayed") from error
        reader = Reader(pair, peer)
        return {Secret.SELF_MASK: reader.take(shamir.SHARE_BYTES), Secret.MASK_KEY: reader.take(shamir.SHARE_BYTES)}
