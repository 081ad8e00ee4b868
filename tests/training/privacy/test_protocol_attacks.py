"""A server that lies, clients that cheat, messages that were changed: refused, and the culprit is named."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Set

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import PrivFedTalkError
from training.privacy.secure_aggregation import payloads
from training.privacy.secure_aggregation.client import Client
from training.privacy.secure_aggregation.messages import (
    ENVELOPE_OVERHEAD,
    Kind,
    ProtocolError,
    encode_places,
    frame,
    seal,
)
from training.privacy.secure_aggregation.payloads import Secret
from training.privacy.secure_aggregation.server import Stage

from .protocol_driver import Session, session

CLIENT_STAGES: list[Stage] = [stage for stage in Stage if stage is not Stage.DONE]


def _unmask_request(here: Session, survivors: set[str], dropped: set[str], consents: list[bytes]) -> bytes:
    lists = encode_places(here.terms, survivors) + encode_places(here.terms, dropped)
    return frame(Kind.UNMASK_REQUEST, here.terms, lists + payloads.encode_envelopes(consents))


def _at_unmask(drop: Set[str] = frozenset({"c0004"})) -> tuple[Session, set[str], list[bytes]]:
    """A session in which `drop` fell out after sharing keys, with the consents the server gathered."""
    here = session().run_until(Stage.MASKED_INPUT)
    here.run_stage(drop=drop)
    survivors = set(here.inbox)
    consents = []
    for client in sorted(survivors):
        consents.append(here.answer(client))
        here.server.receive(consents[-1])
    here.inbox = here.server.close_stage()
    return here, survivors, consents


# A lying server.


def test_asking_for_both_kinds_of_shares_of_one_client_is_refused() -> None:
    here, survivors, consents = _at_unmask()
    request = _unmask_request(here, survivors, {"c0004", "c0001"}, consents)
    with pytest.raises(ProtocolError, match="both kinds of shares of c0001") as caught:
        here.clients["c0000"].unmask(request)
    assert caught.value.client == "server"
    # The refusal cost nothing: the honest request is still answered, and only once.
    here.server.receive(here.clients["c0000"].unmask(here.inbox["c0000"]))
    with pytest.raises(ProtocolError, match="consented"):
        here.clients["c0000"].unmask(here.inbox["c0000"])


def test_calling_a_survivor_dropped_after_consent_is_refused() -> None:
    here, survivors, consents = _at_unmask()
    request = _unmask_request(here, survivors - {"c0001"}, {"c0004", "c0001"}, consents)
    with pytest.raises(ProtocolError, match="another set of survivors"):
        here.clients["c0000"].unmask(request)


def test_two_stories_about_the_survivors_do_not_gather_consent() -> None:
    """The server tells two clients another set of survivors; their consents do not serve the others."""
    here = session().run_until(Stage.CONSENT)
    everybody, fewer = set(here.inbox), set(here.inbox) - {"c0004"}
    told_otherwise = frame(Kind.SURVIVORS, here.terms, encode_places(here.terms, fewer))
    consents = [here.clients[name].consent(here.inbox[name]) for name in ("c0000", "c0001")]
    consents += [here.clients[name].consent(told_otherwise) for name in ("c0002", "c0003")]
    with pytest.raises(ProtocolError, match="consented to another set") as caught:
        here.clients["c0000"].unmask(_unmask_request(here, everybody, set(), consents))
    assert caught.value.client == "c0002"
    with pytest.raises(ProtocolError, match="consent of 2 survivors where 3"):
        here.clients["c0000"].unmask(_unmask_request(here, everybody, set(), consents[:2]))
    with pytest.raises(ProtocolError, match="consented to another set") as caught:
        here.server.receive(consents[2])
    assert caught.value.client == "c0002"


def test_others_consent_does_not_replace_a_clients_own() -> None:
    """Enough clients signed the second story; who signed the first answers to none but that."""
    here = session().run_until(Stage.CONSENT)
    fewer = set(here.inbox) - {"c0004"}
    told_otherwise = frame(Kind.SURVIVORS, here.terms, encode_places(here.terms, fewer))
    here.clients["c0000"].consent(here.inbox["c0000"])
    consents = [here.clients[name].consent(told_otherwise) for name in ("c0001", "c0002", "c0003")]
    with pytest.raises(ProtocolError, match="than this client consented to") as caught:
        here.clients["c0000"].unmask(_unmask_request(here, fewer, {"c0004"}, consents))
    assert caught.value.client == "server"


def test_repeated_consents_count_once() -> None:
    here, survivors, consents = _at_unmask()
    with pytest.raises(ProtocolError, match="consent of 1 survivors"):
        here.clients["c0000"].unmask(_unmask_request(here, survivors, {"c0004"}, 3 * consents[:1]))


def test_leaving_somebody_out_of_both_sets_is_refused() -> None:
    here, survivors, consents = _at_unmask()
    with pytest.raises(ProtocolError, match="other clients than those who shared"):
        here.clients["c0000"].unmask(_unmask_request(here, survivors, set(), consents))


def test_opening_the_sum_of_too_few_is_refused() -> None:
    here = session().run_until(Stage.CONSENT)
    told = frame(Kind.SURVIVORS, here.terms, encode_places(here.terms, {"c0000", "c0001"}))
    with pytest.raises(ProtocolError, match="2 of 3 clients"):
        here.clients["c0000"].consent(told)


def test_keys_the_server_made_up_are_refused() -> None:
    here = session()
    envelopes = [here.answer(name) for name in sorted(here.clients)]
    own = payloads.encode_keys(payloads.PublicKeys(b"\1" * 32, b"\2" * 32))
    envelopes[3] = seal(Kind.KEYS, here.terms, "c0003", own, Ed25519PrivateKey.generate())
    with pytest.raises(ProtocolError, match="signature") as caught:
        here.clients["c0000"].share_keys(frame(Kind.KEY_LIST, here.terms, payloads.encode_envelopes(envelopes)))
    assert caught.value.client == "c0003"


def test_listing_a_client_or_its_keys_twice_is_refused() -> None:
    here = session()
    envelopes = [here.answer(name) for name in sorted(here.clients)]
    listed = payloads.encode_envelopes([*envelopes[:4], envelopes[0]])
    with pytest.raises(ProtocolError, match="listed twice"):
        here.clients["c0000"].share_keys(frame(Kind.KEY_LIST, here.terms, listed))
    keys = payloads.encode_keys(payloads.PublicKeys(b"\1" * 32, b"\1" * 32))
    envelopes[3] = seal(Kind.KEYS, here.terms, "c0003", keys, here.identities["c0003"])
    with pytest.raises(ProtocolError, match="one key twice"):
        here.clients["c0000"].share_keys(frame(Kind.KEY_LIST, here.terms, payloads.encode_envelopes(envelopes)))


def test_shares_tampered_with_or_sent_to_another_are_refused() -> None:
    here = session().run_until(Stage.MASKED_INPUT)
    relayed = bytearray(here.inbox["c0000"])
    relayed[-1] ^= 1
    with pytest.raises(ProtocolError, match="tampered") as caught:
        here.clients["c0000"].masked_input(bytes(relayed), here.vectors["c0000"])
    assert caught.value.client == "c0004"
    with pytest.raises(ProtocolError, match=r"tampered|never listed"):
        here.clients["c0001"].masked_input(here.inbox["c0000"], here.vectors["c0001"])


def test_a_vector_is_masked_once_only() -> None:
    here = session().run_until(Stage.MASKED_INPUT)
    here.answer("c0000")
    with pytest.raises(ProtocolError, match="after MASKED"):
        here.answer("c0000")


# Messages changed on their way.


@pytest.mark.parametrize("stage", CLIENT_STAGES)
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_message_is_refused_and_the_next_one_is_heard(stage: Stage, data: st.DataObject) -> None:
    here = session(length=3).run_until(stage)
    said = here.answer("c0002")
    position = data.draw(st.integers(0, len(said) - 1))
    changed = bytearray(said)
    changed[position] ^= data.draw(st.integers(1, 255))
    cut = said[: data.draw(st.integers(0, len(said) - 1))]
    for bad in (bytes(changed), cut, said + b"\0"):
        with pytest.raises(ProtocolError) as caught:
            here.server.receive(bad)
        if bad is not cut and not 5 <= position < 7:  # the sender's own place was not what changed
            assert caught.value.client == "c0002"
    assert here.server.receive(said) == "c0002"
    with pytest.raises(ProtocolError, match="second message") as caught:
        here.server.receive(said)
    assert caught.value.client == "c0002"


@pytest.mark.parametrize("stage", CLIENT_STAGES)
def test_a_message_signed_by_another_client_is_refused(stage: Stage) -> None:
    here = session().run_until(stage)
    payload = here.answer("c0002")[ENVELOPE_OVERHEAD - 64 : -64]
    kind = Kind(2 * stage + 1)
    with pytest.raises(ProtocolError, match="signature") as caught:
        here.server.receive(seal(kind, here.terms, "c0002", payload, here.identities["c0003"]))
    assert caught.value.client == "c0002"


@pytest.mark.parametrize("stage", CLIENT_STAGES)
def test_a_message_of_another_round_or_stage_is_refused(stage: Stage) -> None:
    before = session().run_until(stage)
    replayed = before.answer("c0001")
    here = session(identities=before.identities, round_number=2).run_until(stage)
    with pytest.raises(ProtocolError, match="another round") as caught:
        here.server.receive(replayed)
    assert caught.value.client == "c0001"
    early_or_late = Stage((stage + 1) % len(CLIENT_STAGES))
    elsewhere = session(identities=before.identities).run_until(early_or_late)
    with pytest.raises(ProtocolError, match="was due"):
        elsewhere.server.receive(replayed)


@pytest.mark.parametrize("stage", CLIENT_STAGES[1:])
def test_the_servers_messages_of_another_round_are_refused(stage: Stage) -> None:
    before = session().run_until(stage)
    here = session(identities=before.identities, round_number=2).run_until(stage)
    here.inbox["c0000"] = before.inbox["c0000"]
    with pytest.raises(ProtocolError, match="another protocol, round or terms"):
        here.answer("c0000")


# Cheating clients.


def test_a_client_that_dropped_out_is_not_heard_again() -> None:
    here = session().run_until(Stage.MASKED_INPUT)
    late = here.answer("c0004")
    here.run_stage(drop={"c0004"})
    with pytest.raises(ProtocolError, match="was due"):
        here.server.receive(late)
    payload = payloads.survivors_digest(here.terms, frozenset(here.inbox))
    with pytest.raises(ProtocolError, match="after having dropped out") as caught:
        here.server.receive(seal(Kind.CONSENT, here.terms, "c0004", payload, here.identities["c0004"]))
    assert caught.value.client == "c0004"


@pytest.mark.parametrize("victim", ["c0003", "c0004"])
def test_false_shares_are_noticed_before_a_wrong_sum_is_used(victim: str) -> None:
    here, survivors, _ = _at_unmask()
    for client in sorted(survivors):
        said = here.answer(client)
        if client == "c0000":
            shares = payloads.decode_revealed(said[ENVELOPE_OVERHEAD - 64 : -64], here.terms, client)
            wanted = Secret.SELF_MASK if victim in survivors else Secret.MASK_KEY
            shares[victim, wanted] = (int.from_bytes(shares[victim, wanted], "big") ^ 1).to_bytes(33, "big")
            forged = payloads.encode_revealed(here.terms, shares)
            said = seal(Kind.UNMASK_SHARES, here.terms, client, forged, here.identities[client])
        here.server.receive(said)
    with pytest.raises(ProtocolError, match=r"does not come back from its shares.*c0000") as caught:
        here.server.close_stage()
    assert caught.value.client == victim
    with pytest.raises(ProtocolError, match="before the round ended"):
        here.server.result()


def test_shares_that_were_not_asked_for_are_refused() -> None:
    here, _, _ = _at_unmask()
    said = here.answer("c0000")
    shares = payloads.decode_revealed(said[ENVELOPE_OVERHEAD - 64 : -64], here.terms, "c0000")
    shares.pop(("c0001", Secret.SELF_MASK))
    forged = payloads.encode_revealed(here.terms, shares)
    with pytest.raises(ProtocolError, match="exactly the shares") as caught:
        here.server.receive(seal(Kind.UNMASK_SHARES, here.terms, "c0000", forged, here.identities["c0000"]))
    assert caught.value.client == "c0000"


def test_a_public_key_whose_secrets_anyone_knows_is_refused() -> None:
    here = session()
    envelopes = [here.answer(name) for name in sorted(here.clients)]
    keys = payloads.encode_keys(payloads.PublicKeys(bytes(32), b"\2" * 32))
    envelopes[3] = seal(Kind.KEYS, here.terms, "c0003", keys, here.identities["c0003"])
    with pytest.raises(ProtocolError, match="not a usable") as caught:
        here.clients["c0000"].share_keys(frame(Kind.KEY_LIST, here.terms, payloads.encode_envelopes(envelopes)))
    assert caught.value.client == "c0003"


def test_a_client_outside_the_roster_or_with_a_wrong_vector_is_refused() -> None:
    here = session()
    with pytest.raises(PrivFedTalkError, match="not in the round's roster"):
        Client(here.terms, "c0000", Ed25519PrivateKey.generate(), here.clients["c0000"]._policy)
    here.run_until(Stage.MASKED_INPUT)
    here.vectors["c0000"] = np.zeros(9, dtype="<u8")
    with pytest.raises(PrivFedTalkError, match="vector of uint64"):
        here.answer("c0000")


# Decoders meet anything.


@pytest.mark.parametrize("stage", CLIENT_STAGES)
@settings(max_examples=60)
@given(noise=st.binary(max_size=400), place=st.integers(0, 2**16 - 1))
def test_no_bytes_from_a_client_do_more_than_a_protocol_error(stage: Stage, noise: bytes, place: int) -> None:
    """Well-formed, well-signed envelopes around any payload, and payloads without an envelope."""
    here = _SESSIONS[stage]
    with pytest.raises(ProtocolError):
        here.server.receive(noise)
    sender = here.terms.client_at(1 + place % 5)
    with pytest.raises(ProtocolError):
        here.server.receive(seal(Kind(2 * stage + 1), here.terms, sender, noise, here.identities[sender]))


@pytest.mark.parametrize("stage", CLIENT_STAGES[1:])
@settings(max_examples=60)
@given(noise=st.binary(max_size=400))
def test_no_bytes_from_the_server_do_more_than_a_protocol_error(stage: Stage, noise: bytes) -> None:
    here = _SESSIONS[stage]
    for message in (noise, frame(Kind(2 * stage), here.terms, noise)):
        here.inbox["c0000"] = message
        with pytest.raises(ProtocolError):
            here.answer("c0000")


# Sessions of vectors too long for the noise to be one; a refused message leaves them as they were.
_SESSIONS = {stage: session(length=500).run_until(stage) for stage in CLIENT_STAGES}


def test_sizes_are_bounded_before_anything_is_allocated() -> None:
    here = session()
    claims_much = here.answer("c0000")[:39] + (2**32 - 1).to_bytes(4, "little")
    with pytest.raises(ProtocolError, match=r"truncated|longer|shorter"):
        here.server.receive(claims_much + bytes(100))
    with pytest.raises(ProtocolError, match="longer than allowed") as caught:
        here.server.receive(here.answer("c0001") + bytes(10**6))
    assert caught.value.client == "c0001"


@pytest.mark.parametrize("stage", CLIENT_STAGES)
def test_a_message_cut_anywhere_after_its_header_names_its_sender(stage: Stage) -> None:
    here = session(length=3).run_until(stage)
    said = here.answer("c0002")
    for length in range(ENVELOPE_OVERHEAD, len(said)):
        with pytest.raises(ProtocolError, match="truncated") as caught:
            here.server.receive(said[:length])
        assert caught.value.client == "c0002"


@pytest.mark.parametrize("stage", CLIENT_STAGES)
def test_a_short_message_that_announces_much_takes_no_memory(stage: Stage) -> None:
    """Signed like any other, with counts of 65535 where entries should follow."""
    here = _SESSIONS[stage]
    greedy = seal(Kind(2 * stage + 1), here.terms, "c0002", b"\xff" * 61, here.identities["c0002"])
    answers: list[Callable[[], object]] = [lambda: here.server.receive(greedy)]
    if stage:
        answers.append(lambda: here.answer("c0000"))
        here.inbox["c0000"] = frame(Kind(2 * stage), here.terms, b"\xff" * 61)
    for answer in answers:
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError):
                answer()
            assert tracemalloc.get_traced_memory()[1] < 200_000
        finally:
            tracemalloc.stop()
