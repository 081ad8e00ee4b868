"""What an adversary computes from the bytes of a round: the server alone, or with fewer colluders than the threshold.

The attacks read transcripts with the protocol's public decoders and derive keys as any client could; each test also
shows that its attack works where it should, so that it cannot pass because the attack is broken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from scipy import stats

from preparation.errors import PrivFedTalkError
from training.privacy.secure_aggregation import keys, payloads, shamir
from training.privacy.secure_aggregation.client import Client
from training.privacy.secure_aggregation.masking import add_masks
from training.privacy.secure_aggregation.messages import (
    ENVELOPE_OVERHEAD,
    SIGNATURE_BYTES,
    Kind,
    ProtocolError,
    Reader,
    RoundAbortedError,
    encode_places,
    frame,
    seal,
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
        plus, minus = [], []
        for peer in self.said[Stage.SHARE_KEYS]:
            if peer != client:
                key = keys.pairwise_mask_key(self.terms, own, self.keys_of(peer).mask, client, peer)
                (minus if self.terms.places[client] < self.terms.places[peer] else plus).append(key)
        vector = self.masked(client).copy()
        add_masks(vector, plus, minus)
        return vector


def tapped(late: str | None = None, length: int = 17_000, **terms: object) -> Wiretap:
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
                assert not (left == plain).any() and looks_uniform(left - plain), group
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
    top = {"shares": [], "interpolated": []}
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
    assert stats.chisquare(np.bincount(np.frombuffer(relayed, np.uint8), minlength=256)).pvalue > 1e-12


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


# What signatures and commitments bind.


def test_consent_names_the_survivors_the_round_and_nothing_less() -> None:
    here, elsewhere = session().terms, session(round_number=2).terms
    groups = [frozenset(group) for size in (3, 4, 5) for group in combinations(NAMES, size)]
    digests = {payloads.survivors_digest(terms, group) for terms in (here, elsewhere) for group in groups}
    assert len(digests) == 2 * len(groups)


def test_a_commitment_names_its_owner_the_round_and_the_whole_seed() -> None:
    here, elsewhere = session().terms, session(round_number=2).terms
    seeds = [bytes(32), b"\1" + bytes(31), bytes(31) + b"\1"]
    told = {payloads.self_mask_commitment(terms, c, s) for terms in (here, elsewhere) for c in NAMES for s in seeds}
    assert len(told) == 2 * len(NAMES) * len(seeds)
    assert not any(seed in commitment for seed in seeds for commitment in told)


def test_a_client_whose_own_keys_are_not_listed_goes_no_further() -> None:
    """Somebody with its identity key, a copy of its machine, may have signed others."""
    here = session()
    said = {name: here.answer(name) for name in NAMES}
    strange = payloads.encode_keys(PublicKeys(b"\1" * 32, b"\2" * 32))
    listed = [*list(said.values())[1:], seal(Kind.KEYS, here.terms, "c0000", strange, here.identities["c0000"])]
    with pytest.raises(ProtocolError, match="other keys"):
        here.clients["c0000"].share_keys(frame(Kind.KEY_LIST, here.terms, payloads.encode_envelopes(listed)))


def test_a_client_that_consented_to_one_set_does_not_open_another_that_enough_consented_to() -> None:
    """A server that tells two stories may gather the threshold's consents to each, from colluders too."""
    here = session(threshold=3).run_until(Stage.CONSENT)
    fewer = set(NAMES[1:])
    other = frame(Kind.SURVIVORS, here.terms, encode_places(here.terms, fewer))
    here.clients["c0001"].consent(here.inbox["c0001"])  # this client was told of everybody
    consents = [here.clients[name].consent(other) for name in NAMES[2:]]
    lists = encode_places(here.terms, fewer) + encode_places(here.terms, {"c0000"})
    request = frame(Kind.UNMASK_REQUEST, here.terms, lists + payloads.encode_envelopes(consents))
    with pytest.raises(ProtocolError, match="than this client consented to"):
        here.clients["c0001"].unmask(request)
    assert here.clients["c0002"].unmask(request), "the attack itself must work on who consented to it"


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.DONE])
def test_a_signature_binds_the_round_the_stage_and_the_sender(stage: Stage) -> None:
    """What a client signed elsewhere, under the header of the message that is due here."""
    before = session().run_until(stage)
    here = session(identities=before.identities, round_number=2).run_until(stage)
    due, signed = here.answer("c0001"), before.answer("c0001")
    assert len(due) == len(signed) and due[:HEADER_BYTES] != signed[:HEADER_BYTES]
    with pytest.raises(ProtocolError, match="signature"):
        here.server.receive(due[:HEADER_BYTES] + signed[HEADER_BYTES:])
    of_another = due[:5] + here.terms.places["c0002"].to_bytes(2, "little") + due[7:]
    with pytest.raises(ProtocolError, match="signature"):
        here.server.receive(of_another)
    assert here.server.receive(due) == "c0001"


@pytest.mark.parametrize("stage", [Stage.SHARE_KEYS, Stage.MASKED_INPUT, Stage.CONSENT, Stage.UNMASK])
def test_the_servers_messages_are_read_to_the_last_byte(stage: Stage) -> None:
    """One client has dropped out, so that no list is as long as it might be."""
    here = session()
    here.run_stage(drop={LATE})
    here.run_until(stage)
    whole = here.inbox["c0000"]
    for changed in (whole + b"\0", whole[:-1], whole + whole[-2:]):
        here.inbox["c0000"] = changed
        with pytest.raises(ProtocolError):
            here.answer("c0000")
    here.inbox["c0000"] = whole
    assert here.answer("c0000")


def test_too_few_or_others_alone_get_no_shares_no_vector_and_no_consent() -> None:
    """At each stage a server may name less than the threshold, or leave out the very client that it asks."""
    here = session()
    said = {name: here.answer(name) for name in NAMES}
    for listed in (NAMES[:2], NAMES[1:]):
        key_list = payloads.encode_envelopes([said[name] for name in listed])
        with pytest.raises(ProtocolError):
            here.clients["c0000"].share_keys(frame(Kind.KEY_LIST, here.terms, key_list))
    here = session().run_until(Stage.MASKED_INPUT)
    relayed = here.inbox["c0000"]
    one = 2 + payloads.SEALED_SHARES_BYTES
    begin = len(relayed) - (len(NAMES) - 1) * one  # behind the header and the count
    alone = payloads.encode_addressed(here.terms, {"c0001": relayed[begin + 2 : begin + one]})
    with pytest.raises(ProtocolError, match="2 of 3"):
        here.clients["c0000"].masked_input(frame(Kind.SHARE_LIST, here.terms, alone), here.vectors["c0000"])
    here = session().run_until(Stage.CONSENT)
    for named in (NAMES[:2], NAMES[1:]):
        with pytest.raises(ProtocolError):
            here.clients["c0000"].consent(frame(Kind.SURVIVORS, here.terms, encode_places(here.terms, set(named))))


def test_who_is_not_in_the_roster_or_has_another_identity_takes_no_part() -> None:
    here = session()
    for name, identity in (("stranger", here.identities["c0000"]), ("c0000", here.identities["c0001"])):
        with pytest.raises(PrivFedTalkError, match="not in the round's roster"):
            Client(here.terms, name, identity)


def test_only_survivors_consents_count_towards_the_threshold() -> None:
    """A colluder whose vector is not in the sum has nothing to lose by any sum, so its consent is worth nothing."""
    here = session(threshold=3).run_until(Stage.CONSENT)
    left, gone = set(NAMES[:3]), set(NAMES[3:])
    told = frame(Kind.SURVIVORS, here.terms, encode_places(here.terms, left))
    consents = [here.clients[name].consent(told) for name in NAMES[:3]]
    digest = payloads.survivors_digest(here.terms, frozenset(left))
    bought = seal(Kind.CONSENT, here.terms, LATE, digest, here.identities[LATE])
    lists = encode_places(here.terms, left) + encode_places(here.terms, gone)
    for shown in (consents[:2], [*consents[:2], bought], [*consents, bought]):
        request = frame(Kind.UNMASK_REQUEST, here.terms, lists + payloads.encode_envelopes(shown))
        with pytest.raises(ProtocolError, match="shows the consent"):
            here.clients["c0000"].unmask(request)
    honest = frame(Kind.UNMASK_REQUEST, here.terms, lists + payloads.encode_envelopes(consents))
    assert here.clients["c0000"].unmask(honest)


def test_a_client_that_shares_with_some_alone_is_refused() -> None:
    """It could not be opened later, or by its friends alone."""
    here = session().run_until(Stage.SHARE_KEYS)
    payload = here.answer("c0000")[HEADER_BYTES:-SIGNATURE_BYTES]
    commitment, boxes = payload[: payloads.DIGEST_BYTES], payload[payloads.DIGEST_BYTES + 2 :]
    entry = 2 + payloads.SEALED_SHARES_BYTES
    one_less = (len(NAMES) - 2).to_bytes(2, "little") + boxes[entry:]
    for changed in (commitment + one_less, payload[:-1], commitment + one_less + b"\0"):
        with pytest.raises(ProtocolError) as caught:
            here.server.receive(seal(Kind.SHARES, here.terms, "c0000", changed, here.identities["c0000"]))
        assert caught.value.client == "c0000"


def test_a_list_has_one_reading() -> None:
    """No entry twice, none of an unknown kind, nothing behind the last: what is signed means one thing."""
    terms = session().terms
    share, box = bytes(shamir.SHARE_BYTES), bytes(payloads.SEALED_SHARES_BYTES)
    place = b"\1\0"
    revealed = {
        "twice": b"\2\0" + 2 * (place + b"\1" + share),
        "both kinds": b"\2\0" + place + b"\1" + share + place + b"\2" + share,
        "an unknown kind": b"\1\0" + place + b"\3" + share,
        "more than announced": b"\1\0" + place + b"\1" + share + b"\0",
    }
    for payload in revealed.values():
        with pytest.raises(ProtocolError) as caught:
            payloads.decode_revealed(payload, terms, "c0003")
        assert caught.value.client == "c0003"
    assert payloads.decode_revealed(b"\1\0" + place + b"\2" + share, terms, "c0003")
    for payload in (bytes(payloads.KEYS_BYTES + 1), bytes(payloads.KEYS_BYTES - 1)):
        with pytest.raises(ProtocolError):
            payloads.decode_keys(payload, "c0003")
    with pytest.raises(ProtocolError, match="twice"):
        payloads.read_addressed(Reader(b"\2\0" + 2 * (place + box), "c0003"), terms, "c0003")


def test_below_the_threshold_a_round_ends_before_survivors_are_named_and_hears_nobody_after_it() -> None:
    here = session(threshold=3).run_until(Stage.MASKED_INPUT)
    late = here.answer("c0000")
    with pytest.raises(RoundAbortedError, match="masked_input"):
        here.run_stage(drop={"c0000", "c0003", "c0004"})
    with pytest.raises(ProtocolError, match="over"):
        here.server.receive(late)
    with pytest.raises(ProtocolError, match="before the round ended"):
        here.server.result()


def test_nobody_consents_to_a_survivor_who_never_shared_keys() -> None:
    here = session().run_until(Stage.SHARE_KEYS)
    here.run_stage(drop={LATE})
    here.run_until(Stage.CONSENT)
    for named in (set(NAMES), {LATE, *NAMES[:2]}):
        with pytest.raises(ProtocolError, match="never shared"):
            here.clients["c0000"].consent(frame(Kind.SURVIVORS, here.terms, encode_places(here.terms, named)))


def test_a_vector_of_another_kind_is_not_masked() -> None:
    """Half of its bits would be hidden by half a mask."""
    here = session().run_until(Stage.MASKED_INPUT)
    for wrong in (here.vectors["c0000"].astype("<u4"), here.vectors["c0000"].astype("<i8"), here.vectors["c0000"][:-1]):
        with pytest.raises(PrivFedTalkError, match="has a vector of"):
            here.clients["c0000"].masked_input(here.inbox["c0000"], wrong)


def test_a_client_answers_one_request_to_unmask_whatever_it_says() -> None:
    """Two requests would be two questions; together they could ask for both kinds of shares."""
    here = session(threshold=3).run_until(Stage.UNMASK)
    client, honest = here.clients["c0000"], here.inbox["c0000"]
    everybody = encode_places(here.terms, set(NAMES))
    client.unmask(honest)
    for request in (honest, frame(Kind.UNMASK_REQUEST, here.terms, everybody + everybody + b"\0\0")):
        with pytest.raises(ProtocolError):
            client.unmask(request)


def test_a_client_masks_one_vector_a_round() -> None:
    """Two vectors under the same masks differ by what hides neither."""
    here = session().run_until(Stage.MASKED_INPUT)
    here.answer("c0000")
    with pytest.raises(ProtocolError):
        here.clients["c0000"].masked_input(here.inbox["c0000"], here.vectors["c0001"])
