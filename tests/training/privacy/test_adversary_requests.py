"""What an adversary asks for and is refused: bought consents, spliced signatures, lists with two readings."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from common.errors import PrivFedTalkError
from training.privacy.secure_aggregation import payloads, shamir
from training.privacy.secure_aggregation.client import Client
from training.privacy.secure_aggregation.in_process import BARE
from training.privacy.secure_aggregation.messages import (
    SIGNATURE_BYTES,
    Kind,
    ProtocolError,
    Reader,
    RoundAbortedError,
    RoundTerms,
    encode_places,
    frame,
    seal,
)
from training.privacy.secure_aggregation.payloads import PublicKeys
from training.privacy.secure_aggregation.policy import ClientPolicy
from training.privacy.secure_aggregation.server import Stage

from .protocol_driver import session
from .test_adversary import HEADER_BYTES, LATE, NAMES

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
            Client(here.terms, name, identity, ClientPolicy(BARE, here.terms.roster, here.terms.run_id, 1.0))


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
    for changed in (commitment + one_less, payload[:-1], commitment + one_less + b"\0", payload + b"\0"):
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


# Terms that no round may have.

ROSTER = {f"c{place}": bytes([place]) * 32 for place in range(1, 6)}


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"roster": {"c1": bytes(32)}, "threshold": 1}, "among 1 clients"),
        ({"roster": {str(n): n.to_bytes(32, "big") for n in range(4097)}, "threshold": 4097}, "among 4097 clients"),
        ({"threshold": 6}, "threshold 6 among 5"),
        ({"threshold": 2}, "threshold 2 among 5"),
        ({"threshold": 3, "tolerated_colluders": 1}, "of whom 1 may collude"),
        ({"tolerated_colluders": 5}, "5 tolerated colluders"),
        ({"length": 0}, "vectors of 0 elements"),
        ({"length": 2**31 + 1}, "elements"),
        ({"bits": 16}, "of 16 bits"),
        ({"roster": {**ROSTER, "c1": bytes(31)}}, "not 32 bytes"),
        ({"roster": {**ROSTER, "c1": ROSTER["c2"]}}, "share an identity key"),
    ],
)
def test_terms_that_keep_nobody_safe_are_no_terms(terms: dict, said: str) -> None:
    sound: dict[str, Any] = {"run_id": "r", "round_number": 1, "roster": ROSTER, "threshold": 3, "length": 8}
    assert RoundTerms(**sound).floor == 3
    with pytest.raises(PrivFedTalkError, match=said):
        RoundTerms(**{**sound, **terms})


def test_the_largest_and_the_smallest_round_are_allowed() -> None:
    everybody = {str(n): n.to_bytes(32, "big") for n in range(4096)}
    assert len(RoundTerms("r", 1, everybody, 2049, 2**31).clients) == 4096
    assert len(RoundTerms("r", 1, {name: everybody[name] for name in "12"}, 2, 1).clients) == 2


def test_terms_read_alike_only_where_they_are_alike() -> None:
    """Every message is signed for its terms: another run, round, name or key is another context."""
    sound = RoundTerms("r", 1, ROSTER, 3, 8)
    renamed = {("c9" if name == "c5" else name): key for name, key in ROSTER.items()}
    others = [
        RoundTerms("q", 1, ROSTER, 3, 8),
        RoundTerms("r", 2, ROSTER, 3, 8),
        RoundTerms("r", 1, ROSTER, 4, 8),
        RoundTerms("r", 1, ROSTER, 3, 9),
        RoundTerms("r", 1, ROSTER, 3, 8, bits=32),
        RoundTerms("r", 1, renamed, 3, 8),
        RoundTerms("r", 1, {**ROSTER, "c5": bytes([9]) * 32}, 3, 8),
        RoundTerms("r", 1, {name: ROSTER[name] for name in list(ROSTER)[:4]}, 3, 8),
    ]
    assert len({terms.context for terms in (sound, *others)}) == 1 + len(others)


@pytest.mark.parametrize("place", [0, 6, 65535])
def test_a_place_that_nobody_holds_is_nobodys(place: int) -> None:
    terms, written = session().terms, place.to_bytes(2, "little")
    with pytest.raises(ProtocolError, match=f"names place {place}"):
        Reader(written, "c0003").place(terms)
    with pytest.raises(ProtocolError, match=f"names place {place}"):
        Reader(b"\1\0" + written, "c0003").places(terms)


def test_a_set_of_clients_is_written_in_one_way() -> None:
    terms = session().terms
    assert Reader(encode_places(terms, {"c0002", "c0000"}), "c0003").places(terms) == ["c0000", "c0002"]
    for wrong in (b"\2\0\1\0\1\0", b"\2\0\2\0\1\0", b"\3\0\1\0\3\0\2\0"):
        with pytest.raises(ProtocolError, match="ascending"):
            Reader(wrong, "c0003").places(terms)
    with pytest.raises(ProtocolError, match="announces 6 entries where at most 5"):
        Reader(b"\6\0" + b"".join(bytes([place, 0]) for place in range(1, 7)), "c0003").places(terms)


@pytest.mark.parametrize("byte", range(39))
def test_no_byte_of_a_header_may_change(byte: int) -> None:
    """Magic, kind, sender and context, of a client's message and of the server's."""
    here = session().run_until(Stage.SHARE_KEYS)
    said = here.answer("c0001")
    with pytest.raises(ProtocolError):
        here.server.receive(said[:byte] + bytes([said[byte] ^ 1]) + said[byte + 1 :])
    told = here.inbox["c0002"]
    if byte < 37:
        with pytest.raises(ProtocolError) as caught:
            here.clients["c0002"].share_keys(told[:byte] + bytes([told[byte] ^ 1]) + told[byte + 1 :])
        assert caught.value.client == "server"
