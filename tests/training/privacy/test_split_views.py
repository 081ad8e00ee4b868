"""A server that tells clients two stories about who survived: what it takes to bare one client's vector, and what not.

It needs t answers to either story. Colluders answer both, every honest client at most one, so that
2(t − c) ≤ n − c, that is c ≥ 2t − n, is what it takes.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from common.errors import PrivFedTalkError
from training.federation.server.aggregation import Aggregator
from training.privacy.secure_aggregation import payloads, shamir
from training.privacy.secure_aggregation.in_process import BARE
from training.privacy.secure_aggregation.keys import pairwise_mask_key, self_mask_key
from training.privacy.secure_aggregation.masking import add_masks
from training.privacy.secure_aggregation.messages import (
    ENVELOPE_OVERHEAD,
    SIGNATURE_BYTES,
    Kind,
    ProtocolError,
    RoundTerms,
    encode_places,
    frame,
    seal,
)
from training.privacy.secure_aggregation.payloads import Secret
from training.privacy.secure_aggregation.server import Stage
from training.settings.privacy import PrivacySettings

from .protocol_driver import Session, session

VICTIM = "c0000"


def _payload(envelope: bytes) -> bytes:
    return envelope[ENVELOPE_OVERHEAD - SIGNATURE_BYTES : -SIGNATURE_BYTES]


def _story(here: Session, believers: list[str], colluders: list[str], survivors: set[str], wanted: Secret) -> dict:
    """Shares of the victim's secret that one story brings: from whom believes it, and from the colluders."""
    everybody = set(here.clients)
    named = frame(Kind.SURVIVORS, here.terms, encode_places(here.terms, survivors))
    consents = [here.clients[name].consent(named) for name in believers]
    digest = payloads.survivors_digest(here.terms, frozenset(survivors))
    consents += [seal(Kind.CONSENT, here.terms, name, digest, here.identities[name]) for name in colluders]
    lists = encode_places(here.terms, survivors) + encode_places(here.terms, everybody - survivors)
    request = frame(Kind.UNMASK_REQUEST, here.terms, lists + payloads.encode_envelopes(consents))
    shares = {}
    for name in believers:
        told = payloads.decode_revealed(_payload(here.clients[name].unmask(request)), here.terms, name)
        shares[here.terms.places[name]] = told[VICTIM, wanted]
    held = {name: here.clients[name]._shares_held[VICTIM][wanted] for name in colluders}
    return shares | {here.terms.places[name]: share for name, share in held.items()}


def _attack(here: Session, colluders: int) -> np.ndarray:
    """What a lying server makes of the victim's masked vector with the help of its last `colluders` clients."""
    names, vector = sorted(here.clients), here.terms.ring.dtype
    honest, helpers = names[: len(names) - colluders], names[len(names) - colluders :]
    while here.server.stage is not Stage.MASKED_INPUT:
        here.run_stage()
    sent = {name: here.answer(name) for name in names}
    first = here.terms.threshold - colluders  # the victim among them
    seed_shares = _story(here, honest[:first], helpers, set(names), Secret.SELF_MASK)
    key_shares = _story(here, honest[first:], helpers, set(names) - {VICTIM}, Secret.MASK_KEY)
    seed = shamir.combine(dict(list(seed_shares.items())[: here.terms.threshold]))
    mask_key = X25519PrivateKey.from_private_bytes(
        shamir.combine(dict(list(key_shares.items())[: here.terms.threshold]))
    )
    bared = np.frombuffer(_payload(sent[VICTIM]), dtype=vector).copy()
    minus = [self_mask_key(here.terms, seed)]
    plus: list[bytes] = []
    for peer in names[1:]:
        key = pairwise_mask_key(here.terms, mask_key, here.server._keys[peer].mask, VICTIM, peer)
        (minus if here.terms.places[VICTIM] < here.terms.places[peer] else plus).append(key)
    add_masks(bared, plus, minus)
    return bared


@pytest.mark.parametrize(("threshold", "colluders"), [(6, 2), (7, 4), (8, 6), (6, 1), (7, 3), (8, 5)])
def test_two_stories_bare_a_vector_at_the_bound_and_not_below_it(threshold: int, colluders: int) -> None:
    """Ten clients. Terms that tolerate one colluder fewer than the bound are the most that can be agreed on."""
    bound = 2 * threshold - 10
    settings = BARE.model_copy(update={"tolerated_colluders": bound - 1})
    here = session(n=10, threshold=threshold, settings=settings)
    if colluders == bound:
        np.testing.assert_array_equal(_attack(here, colluders), here.vectors[VICTIM])
    else:
        with pytest.raises(ProtocolError, match=f"consent of {threshold - 1} survivors where {threshold} are needed"):
            _attack(here, colluders)


def test_one_share_less_than_the_threshold_bares_nothing() -> None:
    """What is left to the server below the bound: one secret of the victim, and t − 1 shares of the other."""
    here = session(n=10, threshold=7, settings=BARE.model_copy(update={"tolerated_colluders": 3})).run_until(
        Stage.CONSENT
    )
    key = here.clients[VICTIM]._mask_key.private_bytes_raw()
    shares = {here.terms.places[name]: c._shares_held[VICTIM][Secret.MASK_KEY] for name, c in here.clients.items()}
    assert shamir.combine(shares) == key
    for chosen in combinations(shares, 6):
        try:
            assert shamir.combine({place: shares[place] for place in chosen}) != key
        except ValueError:
            continue  # not even 32 bytes


@pytest.mark.parametrize(("n", "c"), [(n, c) for n in (2, 3, 5, 10, 100) for c in (0, 1, 2, 4, 9, 50) if c < n])
def test_thresholds_of_the_settings_keep_the_bound_and_terms_refuse_what_does_not(n: int, c: int) -> None:
    chosen = PrivacySettings(tolerated_colluders=c, threshold=0.51, survivor_floor=0.01)
    t = chosen.share_threshold(n)
    assert c < 2 * t - n and t <= chosen.minimum_survivors(n) <= n
    roster = {f"c{i}": i.to_bytes(32, "big") for i in range(n)}
    assert RoundTerms("r", 0, roster, t, 1, tolerated_colluders=c).threshold == t
    for too_low in range((n + c) // 2 + 1):
        with pytest.raises(PrivFedTalkError, match=f"threshold {too_low} among {n} clients of whom {c} may") as caught:
            RoundTerms("r", 0, roster, too_low, 1, tolerated_colluders=c)
        assert f"from {(n + c) // 2 + 1} to {n}" in caught.value.remedy


@pytest.mark.parametrize("c", [-1, 3, 4])
def test_as_many_colluders_as_clients_are_refused(c: int) -> None:
    roster = {f"c{i}": i.to_bytes(32, "big") for i in range(3)}
    with pytest.raises(PrivFedTalkError, match=f"{c} tolerated colluders among 3 clients"):
        RoundTerms("r", 0, roster, 3, 1, tolerated_colluders=c)
    if c >= 3:
        with pytest.raises(PrivFedTalkError, match=f"tolerated_colluders is {c} in a cohort of 3") as caught:
            Aggregator(PrivacySettings(tolerated_colluders=c), 3, 0, 1.0, 1.0)
        assert "at most 2" in caught.value.remedy


def test_by_default_one_colluder_is_tolerated() -> None:
    assert PrivacySettings().tolerated_colluders == 1


def test_of_a_small_cohort_all_but_one_may_collude() -> None:
    settings = PrivacySettings(tolerated_colluders=3)
    assert [settings.colluders_among(cohort) for cohort in range(6)] == [0, 0, 1, 2, 3, 3]
