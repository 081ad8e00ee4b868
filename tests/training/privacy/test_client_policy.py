"""A server that promises less in a round's terms than the clients were told before: refused, and nothing is opened."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from common.errors import PrivFedTalkError
from training.federation.client.training import LocalUpdate
from training.federation.server.aggregation import Aggregator
from training.privacy.mechanisms.base import MechanismTerms
from training.privacy.mechanisms.factory import promised_terms
from training.privacy.secure_aggregation.in_process import new_identities
from training.privacy.secure_aggregation.messages import Kind, ProtocolError, RoundTerms, encode_places, frame
from training.privacy.secure_aggregation.server import Stage
from training.settings.privacy import Mode, PrivacySettings

from .protocol_driver import session

TOLD = PrivacySettings(noise_multiplier=0.5, max_participation=3, tolerated_colluders=1, threshold=0.7)
MECHANISM = promised_terms(TOLD, 10, 1.0)


def test_terms_that_keep_the_promise_are_accepted_and_the_round_noted() -> None:
    here = session(n=10, threshold=7, settings=TOLD, taken_part=(7, 8)).run_until(Stage.DONE)
    np.testing.assert_array_equal(here.server.result(), np.sum(list(here.vectors.values()), axis=0, dtype=np.uint64))
    assert all(client._policy.taken_part == {1, 7, 8} for client in here.clients.values())


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        ({"minimum_survivors": 7}, "floor of 7 among 10 clients, but at least 8"),
        ({"minimum_survivors": 0}, "floor of 7"),
        ({"threshold": 6}, "threshold of 6"),
        ({"tolerated_colluders": 0}, "bound on colluders of 0"),
        ({"mechanism": replace(MECHANISM, share_variance=0.0)}, "noise shares of variance 0"),
        ({"mechanism": replace(MECHANISM, share_variance=0.865 * MECHANISM.share_variance)}, "noise shares"),
        ({"mechanism": replace(MECHANISM, clip_norm=2.0)}, "norm of 2, but this client clipped to 1"),
        ({"mechanism": promised_terms(TOLD, 10, 2.0)}, "norm of 2"),
        ({"mechanism": replace(MECHANISM, grid=2 * MECHANISM.grid)}, "grid"),
        ({"mechanism": replace(MECHANISM, grid=MECHANISM.grid / 2)}, "grid"),
        ({"max_participation": 4}, "caps participation at 4, but 3"),
        ({"max_participation": None}, "caps participation at None"),
        ({"run_id": "another"}, "run 'another'"),
    ],
)
def test_terms_that_keep_less_than_was_told_are_refused_before_anything_is_said(lie: dict[str, Any], told: str) -> None:
    with pytest.raises(ProtocolError, match=told) as caught:
        session(n=10, settings=TOLD, **{"threshold": 7, **lie})
    assert caught.value.client == "server"


def test_a_higher_floor_may_go_with_smaller_shares_but_not_with_less_noise_on_the_sum() -> None:
    """Clients who left before the round: its roster is smaller than the cohort by which the noise was shared out."""
    whole = MECHANISM.share_variance * 7
    session(
        n=10, threshold=7, settings=TOLD, minimum_survivors=10, mechanism=replace(MECHANISM, share_variance=whole / 9)
    )
    with pytest.raises(ProtocolError, match="noise shares"):
        less = replace(MECHANISM, share_variance=0.999 * whole / 9)
        session(n=10, threshold=7, settings=TOLD, minimum_survivors=10, mechanism=less)


def test_a_client_at_its_cap_refuses_and_so_does_one_that_has_been_in_the_round() -> None:
    with pytest.raises(ProtocolError, match="taken part 3 times, its cap"):
        session(n=10, threshold=7, settings=TOLD, taken_part=(4, 5, 6))
    with pytest.raises(ProtocolError, match="round 1, but this client has taken part in it already"):
        session(n=10, threshold=7, settings=TOLD, taken_part=(1,))


def test_a_round_replayed_to_two_members_at_once_gets_one_masked_vector() -> None:
    """Both were begun before either sent anything: the second is refused when its vector is due."""
    first, again = (session(n=10, threshold=7, settings=TOLD).run_until(Stage.MASKED_INPUT) for _ in range(2))
    again.clients["c0000"]._policy = first.clients["c0000"]._policy
    first.answer("c0000")
    with pytest.raises(ProtocolError, match="taken part in it already"):
        again.answer("c0000")


def test_keys_that_are_not_the_directorys_are_refused() -> None:
    identities = new_identities({f"c{i:04d}" for i in range(10)})
    known = {name: key.public_key().public_bytes_raw() for name, key in identities.items()}
    forged = known | {"c0004": bytes(32)}
    for directory, culprit in ((forged, "c0004"), ({k: v for k, v in known.items() if k != "c0007"}, "c0007")):
        with pytest.raises(ProtocolError, match="not the one in the directory") as caught:
            session(n=10, threshold=7, settings=TOLD, identities=identities, directory=directory)
        assert caught.value.client == culprit


@pytest.mark.parametrize("stage", [Stage.SHARE_KEYS, Stage.MASKED_INPUT])
def test_too_few_clients_before_the_vectors_end_the_round(stage: Stage) -> None:
    here = session(n=10, threshold=7, settings=TOLD).run_until(stage)
    with pytest.raises(ProtocolError, match="7 clients left, 8 needed"):
        here.run_stage(drop={"c0007", "c0008", "c0009"})


def test_claiming_that_four_of_ten_dropped_opens_nothing() -> None:
    """All ten sent their vectors; of the six that the server names the noise would be 0.865 of what is accounted."""
    here = session(n=10, threshold=7, settings=TOLD).run_until(Stage.CONSENT)
    for named in (6, 7):
        claim = frame(Kind.SURVIVORS, here.terms, encode_places(here.terms, set(sorted(here.clients)[:named])))
        for client in sorted(here.clients)[:named]:
            with pytest.raises(ProtocolError, match=f"masked_input with {named} of 8 clients"):
                here.clients[client].consent(claim)
    with pytest.raises(ProtocolError, match="before the round ended"):
        here.server.result()


def test_every_number_of_the_terms_is_signed() -> None:
    here = session(n=10, threshold=7, settings=TOLD).terms
    others = [
        replace(here, tolerated_colluders=2),
        replace(here, minimum_survivors=9),
        replace(here, max_participation=2),
        *(replace(here, mechanism=replace(MECHANISM, **{name: 0.125})) for name in vars(MECHANISM)),
    ]
    assert len({terms.context for terms in [here, *others]}) == 1 + len(others)
    assert replace(here).context == here.context


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0])
def test_terms_of_no_number_are_refused(number: float) -> None:
    roster = {f"c{i}": i.to_bytes(32, "big") for i in range(3)}
    with pytest.raises(PrivFedTalkError, match="finite numbers"):
        RoundTerms("r", 0, roster, 3, 1, mechanism=MechanismTerms(share_variance=number))
    with pytest.raises(PrivFedTalkError, match="floor of 4"):
        RoundTerms("r", 0, roster, 3, 1, minimum_survivors=4)


# The real path: what `Aggregator` puts into its terms is what its clients check.


def _sent(aggregator: Aggregator, clients: int, number: int = 1) -> dict:
    update = LocalUpdate(np.full(20, 0.1, np.float32), 4, 0.5, {}, 0.0)
    return {f"c{k}": aggregator.contribute(f"c{k}", update, number) for k in range(clients)}


def test_an_aggregator_that_was_made_to_lie_is_refused_by_its_own_clients() -> None:
    for change in ({"share_variance": MECHANISM.share_variance / 2}, {"grid": 1.0}):
        aggregator = Aggregator(TOLD, 10, 0, 1.0, 1.0)
        aggregator.mechanism.terms = replace(aggregator.mechanism.terms, **change)
        with pytest.raises(ProtocolError, match=r"noise shares|grid"):
            aggregator.combine(_sent(aggregator, 10), 1)
    aggregator = Aggregator(TOLD, 10, 0, 1.0, 1.0)
    aggregator.survivors = 7
    with pytest.raises(ProtocolError, match="floor of 7"):
        aggregator.combine(_sent(aggregator, 10), 1)


def test_an_aggregator_counts_earlier_rounds() -> None:
    for rounds, why in (([2], "already"), ([3, 4, 5], "its cap")):
        aggregator = Aggregator(TOLD, 10, 0, 1.0, 1.0, run_id="run", taken_part={"c3": rounds})
        with pytest.raises(ProtocolError, match=why):
            aggregator.combine(_sent(aggregator, 10, 2), 2)
    aggregator = Aggregator(TOLD, 10, 0, 1.0, 1.0, run_id="run", taken_part={"c3": [1, 3]})
    assert len(aggregator.combine(_sent(aggregator, 10, 2), 2).returned) == 10


@pytest.mark.parametrize("mode", ["distributed", "central", "none"])
@pytest.mark.parametrize("colluders", [0, 1, 3])
@pytest.mark.parametrize(("cohort", "came"), [(5, 5), (10, 10), (10, 9), (10, 8), (30, 24), (30, 27)])
def test_honest_rounds_open_whoever_left_before(mode: Mode, colluders: int, cohort: int, came: int) -> None:
    settings = PrivacySettings(mode=mode, tolerated_colluders=colluders, noise_multiplier=3.0)
    aggregator = Aggregator(settings, cohort, 0, 0.25, 1.0)
    assert len(aggregator.combine(_sent(aggregator, came), 1).returned) == came
