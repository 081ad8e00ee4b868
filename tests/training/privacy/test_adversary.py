"""What an adversary computes from the bytes of a round: the server alone, or with fewer colluders than the threshold.

The attacks read transcripts with the protocol's public decoders and derive keys as any client could; each test also
shows that its attack works where it should, so that it cannot pass because the attack is broken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from scipy import stats

from training.privacy.secure_aggregation import keys, payloads, shamir
from training.privacy.secure_aggregation.masking import add_masks
from training.privacy.secure_aggregation.messages import (
    ENVELOPE_OVERHEAD,
    SIGNATURE_BYTES,
    ProtocolError,
)
from training.privacy.secure_aggregation.payloads import PublicKeys, RevealedShares, Secret
from training.privacy.secure_aggregation.server import Stage

from .protocol_driver import Session, session

NAMES = [f"c{i:04d}" for i in range(5)]
LATE = "c0004"
HEADER_BYTES = ENVELOPE_OVERHEAD - SIGNATURE_BYTES
NEVER = 1e-7
"""A false alarm of a statistical test here is rarer than this."""


class Wiretap:
    """A round played to its end, with all that the server sees of it. `late` sends its masked vector, which the
    server reads and then calls lost: it is asked for the shares of a client that dropped out."""

    def __init__(self, here: Session, late: str | None = None) -> None:
        self.terms, self.vectors = here.terms, here.vectors
        self.said: dict[Stage, dict[str, bytes]] = {}
        while here.server.stage is not Stage.DONE:
            stage = here.server.stage
            answers = {client: here.answer(client) for client in sorted(here.inbox)}
            self.said[stage] = {client: answer[HEADER_BYTES:-SIGNATURE_BYTES] for client, answer in answers.items()}
            for client, answer in answers.items():
                if (stage, client) != (Stage.MASKED_INPUT, late):
                    here.server.receive(answer)
            here.inbox = here.server.close_stage()
        self.survivors = sorted(here.server.survivors)
        self.total = here.server.result()

    def keys_of(self, client: str) -> PublicKeys:
        return payloads.decode_keys(self.said[Stage.ADVERTISE][client], client)

    def commitment_of(self, client: str) -> bytes:
        return self.said[Stage.SHARE_KEYS][client][: payloads.DIGEST_BYTES]

    def masked(self, client: str) -> np.ndarray:
        return np.frombuffer(self.said[Stage.MASKED_INPUT][client], self.terms.ring.dtype)

    def revealed_by(self, client: str) -> RevealedShares:
        return payloads.decode_revealed(self.said[Stage.UNMASK][client], self.terms, client)

    def secret(self, owner: str, secret: Secret, holders: Iterable[str]) -> bytes:
        return shamir.combine({self.terms.places[h]: self.revealed_by(h)[owner, secret] for h in holders})

    def opens(self, owner: str, seed: bytes) -> bool:
        """Whether a seed is the one that its owner committed to."""
        return payloads.self_mask_commitment(self.terms, owner, seed) == self.commitment_of(owner)

    def without_self_mask(self, client: str) -> np.ndarray:
        seed = self.secret(client, Secret.SELF_MASK, self.survivors[: self.terms.threshold])
        assert self.opens(client, seed), "the attack itself must work"
        vector = self.masked(client).copy()
        add_masks(vector, [], [keys.self_mask_key(self.terms, seed)])
        return vector

    def without_pairwise_masks(self, client: str) -> np.ndarray:
        holders = self.survivors[: self.terms.threshold]
        own = X25519PrivateKey.from_private_bytes(self.secret(client, Secret.MASK_KEY, holders))
        assert keys.raw_public_key(own) == self.keys_of(client).mask, "the attack itself must work"
        plus: list[bytes] = []
        minus: list[bytes] = []
        for peer in self.said[Stage.SHARE_KEYS]:
            if peer != client:
                key = keys.pairwise_mask_key(self.terms, own, self.keys_of(peer).mask, client, peer)
                (minus if self.terms.places[client] < self.terms.places[peer] else plus).append(key)
        vector = self.masked(client).copy()
        add_masks(vector, plus, minus)
        return vector


def tapped(late: str | None = None, length: int = 17_000, **terms: Any) -> Wiretap:
    """A round of five, threshold three, on vectors longer than one piece of keystream."""
    return Wiretap(session(length=length, **terms), late)


def looks_uniform(elements: np.ndarray) -> bool:
    return bool(stats.chisquare(np.bincount(elements.view(np.uint8), minlength=256)).pvalue > NEVER)


# Masks.


def test_who_strips_every_self_mask_finds_no_vector_and_no_sum_but_that_of_all() -> None:
    """An honest run gives the server all survivors' self masks. Pairwise masks are then all that is left, and they
    cancel in the sum of everybody alone."""
    tap = tapped()
    stripped = {client: tap.without_self_mask(client) for client in NAMES}
    for size in range(1, len(NAMES) + 1):
        for group in combinations(NAMES, size):
            left = np.sum([stripped[client] for client in group], axis=0, dtype=np.uint64)
            plain = np.sum([tap.vectors[client] for client in group], axis=0, dtype=np.uint64)
            if size < len(NAMES):
                assert not (left == plain).any() and looks_uniform(np.asarray(left - plain)), group
            else:
                np.testing.assert_array_equal(left, plain)


def test_who_strips_the_pairwise_masks_of_a_late_vector_finds_noise() -> None:
    """The server may call a client lost whose vector it has: the survivors then give it that client's mask key, and
    the self mask is all that hides the vector."""
    tap = tapped(LATE)
    assert LATE not in tap.survivors
    left = tap.without_pairwise_masks(LATE) - tap.vectors[LATE]
    assert left.all() and looks_uniform(left)
    np.testing.assert_array_equal(tap.total, np.sum([tap.vectors[c] for c in tap.survivors], axis=0, dtype=np.uint64))


@pytest.mark.parametrize("late", [None, LATE])
def test_no_answer_holds_both_kinds_of_shares_of_a_client(late: str | None) -> None:
    tap = tapped(late, length=4)
    told = {entry for client in tap.survivors for entry in tap.revealed_by(client)}
    assert {owner for owner, secret in told if secret is Secret.MASK_KEY} == ({late} if late else set())
    assert {owner for owner, secret in told if secret is Secret.SELF_MASK} == set(tap.survivors)


def test_masks_of_two_vectors_are_unrelated_and_do_not_repeat_within_one() -> None:
    tap = tapped()
    masks = [tap.masked(client) - tap.vectors[client] for client in NAMES]
    for a, b in combinations(masks, 2):
        assert looks_uniform(a) and looks_uniform(a - b) and looks_uniform(a + b)
    for mask in masks:
        assert len(np.unique(mask)) == len(mask)  # 64 bits: two alike among 17,000 are not to be expected


# Shares.


@pytest.mark.parametrize(("threshold", "holders"), [(2, 3), (3, 5), (5, 8)])
def test_less_than_the_threshold_of_shares_gives_nothing(threshold: int, holders: int) -> None:
    """Neither the shares themselves nor what they interpolate to is the secret, or near it; all are spread evenly."""
    places = range(1, holders + 1)
    top: dict[str, list[int]] = {"shares": [], "interpolated": []}
    for number in range(300):
        secret = number.to_bytes(32, "big")
        shares = shamir.split(secret, threshold, places)
        values = [int.from_bytes(share, "big") for share in shares.values()]
        assert len(set(values)) == holders and number not in values
        assert shamir.combine(dict(list(shares.items())[:threshold])) == secret, "the attack itself must work"
        fewer = list(places)[-(threshold - 1) :]
        weights = shamir.lagrange_weights_at_zero(tuple(fewer))
        guess = sum(weights[x] * int.from_bytes(shares[x], "big") for x in fewer) % shamir.PRIME
        assert guess != number
        top["shares"].append(values[-1] >> 248)
        top["interpolated"].append(guess >> 248)
    for bytes_seen in top.values():
        assert stats.kstest(np.array(bytes_seen) / 256, "uniform").pvalue > NEVER


def test_no_share_is_taken_that_is_none() -> None:
    """A holder at 0 modulo the prime would hold the secret itself; shares outside the field have a second reading."""
    for place in (0, shamir.PRIME, shamir.PRIME + 1):
        with pytest.raises(ValueError, match="place"):
            shamir.split(bytes(32), 2, [1, place])
    good = shamir.split(bytes(32), 2, [1, 2])
    for bad in (b"", good[2][1:], b"\0" + good[2], shamir.PRIME.to_bytes(33, "big"), b"\xff" * 33):
        with pytest.raises(ValueError, match="field"):
            shamir.combine({1: good[1], 2: bad})
    for value in (2**256, 2**256 + 5):
        with pytest.raises(ValueError, match="belong together"):
            shamir.combine({1: value.to_bytes(33, "big")})


def test_the_same_secret_is_never_shared_alike() -> None:
    secret, seen = bytes(32), set()
    for _ in range(50):
        seen |= set(shamir.split(secret, 3, [1, 2, 3]).values())
    assert len(seen) == 150


def test_the_server_with_fewer_than_the_threshold_of_answers_opens_no_secret() -> None:
    """Colluders tell the server their shares early. With t − 1 of them it has nothing, with t it has the seed."""
    tap = tapped(length=4)
    t = tap.terms.threshold
    for victim in NAMES:
        for holders in combinations(NAMES, t - 1):
            with contextlib.suppress(ValueError):  # what came out is no secret at all
                assert not tap.opens(victim, tap.secret(victim, Secret.SELF_MASK, holders))
        assert tap.opens(victim, tap.secret(victim, Secret.SELF_MASK, NAMES[:t]))


def test_the_mask_key_of_a_lost_client_needs_the_threshold_too() -> None:
    tap = tapped(LATE, length=4)
    for holders in combinations(tap.survivors, tap.terms.threshold - 1):
        with contextlib.suppress(ValueError):
            found = X25519PrivateKey.from_private_bytes(tap.secret(LATE, Secret.MASK_KEY, holders))
            assert keys.raw_public_key(found) != tap.keys_of(LATE).mask
    tap.without_pairwise_masks(LATE)  # which shows that the threshold suffices


def test_one_secret_of_a_client_does_not_tell_the_other() -> None:
    late, honest = tapped(LATE, length=4), tapped(length=4)
    mask_key = late.secret(LATE, Secret.MASK_KEY, late.survivors[:3])
    assert not late.opens(LATE, mask_key)
    for name in NAMES:
        seed = honest.secret(name, Secret.SELF_MASK, NAMES[:3])
        public = keys.raw_public_key(X25519PrivateKey.from_private_bytes(seed))
        assert public not in (honest.keys_of(name).mask, honest.keys_of(name).channel)
        assert honest.keys_of(name).mask != honest.keys_of(name).channel


def test_relayed_shares_cannot_be_read() -> None:
    tap = tapped(length=4)
    relayed = b"".join(tap.said[Stage.SHARE_KEYS].values())
    for client in NAMES:
        for share in tap.revealed_by(client).values():
            assert share not in relayed and share[:16] not in relayed
    # Each box comes after the two bytes of its place, most of them zeros: these are left out of the count.
    entry = 2 + payloads.SEALED_SHARES_BYTES
    lists = [said[payloads.DIGEST_BYTES + 2 :] for said in tap.said[Stage.SHARE_KEYS].values()]
    sealed = b"".join(boxes[at + 2 : at + entry] for boxes in lists for at in range(0, len(boxes), entry))
    assert stats.chisquare(np.bincount(np.frombuffer(sealed, np.uint8), minlength=256)).pvalue > 1e-12


# Secrets come from the operating system.


def test_two_rounds_under_the_same_terms_share_no_secret() -> None:
    first = tapped(length=1000)
    again = Wiretap(session(length=1000))
    both = (first, again)
    for a, b in zip(*(tap.vectors.values() for tap in both), strict=True):
        np.testing.assert_array_equal(a, b)
    public = [key for tap in both for name in NAMES for key in (tap.keys_of(name).channel, tap.keys_of(name).mask)]
    assert len(set(public)) == 4 * len(NAMES)
    seeds = [tap.secret(name, Secret.SELF_MASK, NAMES[:3]) for tap in both for name in NAMES]
    assert len(set(seeds)) == 2 * len(NAMES)
    secrets = [*public, *seeds]
    assert all(len(set(secret)) > 8 for secret in secrets), "32 bytes of a few values are no key"
    for name in NAMES:
        assert not (first.masked(name) == again.masked(name)).any()
        assert first.commitment_of(name) != again.commitment_of(name)


def test_a_key_serves_one_round_one_pair_and_one_purpose() -> None:
    """Were X25519 keys ever kept for a second round, masks and channels would still be new ones."""
    terms = [session(round_number=number).terms for number in (1, 1, 2)]
    rounds = [terms[0], terms[2]]
    own, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    found = set()
    for each in rounds:
        for derive in (keys.pairwise_mask_key, keys.channel_key):
            for u, v in (("c0000", "c0001"), ("c0000", "c0002")):
                key = derive(each, own, keys.raw_public_key(other), u, v)
                assert key == derive(each, other, keys.raw_public_key(own), v, u)
                found.add(key)
        found |= {keys.self_mask_key(each, seed) for seed in (bytes(32), b"\1" * 32)}
    assert len(found) == 12
    # It comes from what only the two know: a public key that makes that known to all is refused.
    for derive in (keys.pairwise_mask_key, keys.channel_key):
        with pytest.raises(ProtocolError, match="not a usable"):
            derive(rounds[0], own, bytes(32), "c0000", "c0001")
    # Public bytes alone derive none of them: another private key gives another mask.
    stranger = X25519PrivateKey.generate()
    assert keys.pairwise_mask_key(rounds[0], stranger, keys.raw_public_key(other), "c0000", "c0001") not in found


def test_a_ciphertext_has_its_own_nonce_in_each_direction_and_opens_nowhere_else() -> None:
    here, elsewhere = session().terms, session(round_number=2).terms
    ways = [(a, b) for a in NAMES for b in NAMES if a != b]
    assert len({keys.shares_nonce(here, a, b) for a, b in ways}) == len(ways)
    bound = {keys.shares_associated_data(terms, a, b) for terms in (here, elsewhere) for a, b in ways}
    assert len(bound) == 2 * len(ways)
