"""Derives the keys of masks and channels from X25519 keys and seeds, for both sides of the protocol."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from training.privacy.secure_aggregation.masking import derive_key
from training.privacy.secure_aggregation.messages import ProtocolError, RoundTerms, encode_place


def raw_public_key(key: X25519PrivateKey) -> bytes:
    """The public key of `key`, 32 bytes, as it is sent."""
    return key.public_key().public_bytes_raw()


def self_mask_key(terms: RoundTerms, seed: bytes) -> bytes:
    """The key of a client's own mask b_u."""
    return derive_key(seed, terms.context, b"self mask")


def pairwise_mask_key(terms: RoundTerms, own: X25519PrivateKey, other: bytes, u: str, v: str) -> bytes:
    """The key of the mask s_uv, which u and v both derive: from u's private and v's public key, or the reverse."""
    return derive_key(_agree(own, other, v), terms.context, b"pairwise mask" + _pair(terms, u, v))


def channel_key(terms: RoundTerms, own: X25519PrivateKey, other: bytes, u: str, v: str) -> bytes:
    """The key under which u and v encrypt the shares they send each other in this round."""
    return derive_key(_agree(own, other, v), terms.context, b"channel" + _pair(terms, u, v))


def shares_nonce(terms: RoundTerms, sender: str, recipient: str) -> bytes:
    """12 bytes: sender and recipient. A channel key serves one round and one message each way, so they are enough."""
    return encode_place(terms, sender) + encode_place(terms, recipient) + bytes(8)


def shares_associated_data(terms: RoundTerms, sender: str, recipient: str) -> bytes:
    """Data that binds a ciphertext to its round, sender and recipient, so that it opens nowhere else."""
    return b"shares" + terms.context + encode_place(terms, sender) + encode_place(terms, recipient)


def _agree(own: X25519PrivateKey, other: bytes, peer: str) -> bytes:
    try:
        return own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError as error:  # a low-order point, whose shared secret anyone knows
        raise ProtocolError(peer, "its public key is not a usable X25519 key") from error


def _pair(terms: RoundTerms, u: str, v: str) -> bytes:
    return b"".join(sorted((encode_place(terms, u), encode_place(terms, v))))
