"""Each layer of masks by itself: whoever strips one of them recovers nothing, since the other still hides the vector.

The stripping is done here from the clients' own secrets, apart from the code that removes masks of a whole sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy import stats

from training.federation.client.training import LocalUpdate
from training.federation.server.aggregation import Aggregator
from training.privacy.mechanisms.central_gaussian import CentralGaussian
from training.privacy.mechanisms.poisson_sampling import PoissonSampling
from training.privacy.secure_aggregation import shamir
from training.privacy.secure_aggregation.in_process import aggregate_in_process
from training.privacy.secure_aggregation.keys import pairwise_mask_key, self_mask_key
from training.privacy.secure_aggregation.messages import ENVELOPE_OVERHEAD, SIGNATURE_BYTES
from training.privacy.secure_aggregation.payloads import Secret
from training.privacy.secure_aggregation.server import Stage
from training.settings.privacy import PrivacySettings

from .protocol_driver import Session, session

LENGTH = 20_000


def _keystream(key: bytes) -> np.ndarray:
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(4 * LENGTH))
    return np.frombuffer(stream, "<u4")


def _own(here: Session, client: str) -> np.ndarray:
    return _keystream(self_mask_key(here.terms, here.clients[client]._self_mask_seed))


def _between(here: Session, client: str) -> np.ndarray:
    """The sum of a client's pairwise masks, with their signs."""
    total, member = np.zeros(LENGTH, "<u4"), here.clients[client]
    for peer in sorted(here.clients.keys() - {client}):
        mask = _keystream(pairwise_mask_key(here.terms, member._mask_key, member._peers[peer].mask, client, peer))
        total = total + mask if client < peer else total - mask
    return total


def _masked(n: int) -> tuple[Session, dict[str, np.ndarray]]:
    """A round whose vectors are constants, the easiest to recognise, and what each client sent."""
    here = session(n=n, threshold=n // 2 + 1, length=LENGTH, bits=32)
    here.vectors = {name: np.full(LENGTH, 7 * k + 1, "<u4") for k, name in enumerate(sorted(here.clients))}
    here.run_until(Stage.MASKED_INPUT)
    ends = slice(ENVELOPE_OVERHEAD - SIGNATURE_BYTES, -SIGNATURE_BYTES)
    return here, {name: np.frombuffer(here.answer(name)[ends], "<u4") for name in sorted(here.clients)}


def _sum(vectors: Iterable[np.ndarray]) -> np.ndarray:
    return sum(vectors, start=np.zeros(LENGTH, "<u4"))


def _looks_uniform(vector: np.ndarray) -> bool:
    return bool(stats.chisquare(np.bincount(vector.view(np.uint8), minlength=256)).pvalue > 1e-8)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("strip", [_own, _between])
def test_one_layer_stripped_shows_noise_and_both_the_vector(
    n: int, strip: Callable[[Session, str], np.ndarray]
) -> None:
    here, sent = _masked(n)
    for client, masked in sent.items():
        left = masked - strip(here, client)
        assert _looks_uniform(masked) and _looks_uniform(left)
        assert (left == here.vectors[client]).sum() < 5
        np.testing.assert_array_equal(masked - _own(here, client) - _between(here, client), here.vectors[client])


def test_the_plain_sum_of_masked_vectors_shows_nothing_and_of_all_but_one_neither() -> None:
    """Pairwise masks cancel in the sum of all; the own masks stay. Without one client they do not even cancel."""
    here, sent = _masked(4)
    plain, total = _sum(here.vectors.values()), _sum(sent.values())
    assert _looks_uniform(total) and (total == plain).sum() < 5
    np.testing.assert_array_equal(total - _sum(_own(here, name) for name in sent), plain)
    three = [name for name in sent if name != "c0002"]
    unmasked = _sum(sent[name] for name in three) - _sum(_own(here, name) for name in three)
    assert _looks_uniform(unmasked) and (unmasked == _sum(here.vectors[name] for name in three)).sum() < 5


def test_shares_are_not_the_secret_and_two_sharings_of_it_have_none_in_common() -> None:
    secret, places = b"\5" * 32, range(1, 8)
    first, second = (shamir.split(secret, 4, places) for _ in range(2))
    assert secret not in {share[-32:] for share in (*first.values(), *second.values())}
    assert len(set(first.values())) == len(set(second.values())) == 7
    assert not set(first.values()) & set(second.values())
    for few in ([1, 2, 3], [5, 6, 7], [2], [1, 7]):
        try:
            assert shamir.combine({x: first[x] for x in few}) != secret
        except ValueError:
            continue  # not even 32 bytes


def test_a_peer_holds_shares_that_differ_from_peer_to_peer_and_from_the_secrets() -> None:
    here = session(n=5, threshold=3).run_until(Stage.CONSENT)
    owner = here.clients["c0000"]
    secrets = {owner._self_mask_seed, owner._mask_key.private_bytes_raw()}
    held = [c._shares_held["c0000"][kind] for c in here.clients.values() for kind in Secret]
    assert len(set(held)) == len(held) == 10
    assert not secrets & {share[-32:] for share in held}


def test_no_secret_serves_two_clients_or_two_rounds() -> None:
    rounds = [session(n=3, threshold=2).run_until(Stage.CONSENT) for _ in range(2)]
    members = [member for here in rounds for member in here.clients.values()]
    secrets = {m._self_mask_seed for m in members}
    secrets |= {key.private_bytes_raw() for m in members for key in (m._mask_key, m._channel_key)}
    assert len(secrets) == 3 * len(members)


# Noise. Draws are unseeded here: bounds are more than five standard errors away.

D = 40_000
UPDATE = LocalUpdate(np.zeros(D, np.float32), 0, 0.0, {}, 0.0)


def _noise(settings: PrivacySettings, cohort: int, number: int = 1, seed: int = 0) -> np.ndarray:
    """What one client adds: its vector without the noise is the zero update's."""
    aggregator = Aggregator(settings, cohort, seed, 1.0, 1.0)
    quiet = settings.model_copy(update={"noise_multiplier": 0.0})
    without = Aggregator(quiet, cohort, seed, 1.0, 1.0).contribute("c", UPDATE, number)
    sent = aggregator.contribute("c", UPDATE, number)
    d = len(UPDATE.delta)
    assert not aggregator.mechanism.ring.decode(without.vector)[:d].any()
    return aggregator.mechanism.ring.decode(sent.vector)[:d] * aggregator.mechanism.grid


@pytest.mark.parametrize("z", [0.05, 1.0])
def test_two_unseeded_runs_of_one_round_differ_in_every_noise(z: float) -> None:
    settings = PrivacySettings(noise_multiplier=z)
    first, second = _noise(settings, 10), _noise(settings, 10)
    assert (first == second).mean() < 0.01
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    both = [_noise(settings.model_copy(update={"seeded_noise": 1}), 10) for _ in range(2)]
    np.testing.assert_array_equal(both[0], both[1])


@pytest.mark.parametrize("secure", [True, False])
def test_the_servers_noise_is_not_the_same_in_two_unseeded_rounds(secure: bool) -> None:
    settings = PrivacySettings(mode="central", secure_aggregation=secure)
    sums = []
    for _ in range(2):
        aggregator = Aggregator(settings, 4, 0, 1.0, 1.0)
        sums.append(aggregator.combine({f"c{k}": aggregator.contribute(f"c{k}", UPDATE, 1) for k in range(4)}, 1))
    first, second = (each.total.update for each in sums)
    assert isinstance(aggregator.mechanism, CentralGaussian)
    assert first.std() == pytest.approx(aggregator.mechanism.server_deviation(4003), rel=0.02)
    assert not (first == second).any()
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


@pytest.mark.parametrize("colluders", [1, 2, 5])
def test_shares_grow_with_tolerated_colluders(colluders: int) -> None:
    """What is left when c of the fewest survivors tell theirs is all the noise that is accounted for."""
    settings = PrivacySettings(tolerated_colluders=colluders)
    honest = settings.minimum_survivors(10) - colluders
    counted = Aggregator(settings, 10, 0, 1.0, 1.0).mechanism.deviation
    assert _noise(settings, 10).std() == pytest.approx(counted / np.sqrt(honest), rel=0.02)
    alone = _noise(PrivacySettings(tolerated_colluders=0), 10).std()
    assert _noise(settings, 10).std() > 1.04 * alone


def test_what_the_server_fills_sums_up_with_is_not_the_same_in_two_unseeded_rounds() -> None:
    """Of an empty cohort the noise is all that there is."""
    aggregators = [Aggregator(PrivacySettings(), 0, 0, 1.0, 1.0, PoissonSampling(20, 10.0)) for _ in range(2)]
    alone = [aggregator.noise_alone(D, 1) for aggregator in aggregators]
    first, second = (each.total.update for each in alone if each is not None)
    assert (first == second).mean() < 0.01
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert first.std() == pytest.approx(aggregators[0].mechanism.noise_on_sum(0), rel=0.02)


def test_two_clients_noise_is_unrelated_and_so_is_that_of_two_rounds() -> None:
    settings = PrivacySettings(seeded_noise=3)
    aggregator = Aggregator(settings, 10, 0, 1.0, 1.0)
    drawn = [
        aggregator.mechanism.ring.decode(aggregator.contribute(c, UPDATE, r).vector)
        for c, r in (("a", 1), ("b", 1), ("a", 2))
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(drawn[one][:D], drawn[other][:D])[0, 1]) < 0.03


def test_an_opened_sum_carries_everybodys_noise() -> None:
    settings = PrivacySettings(noise_multiplier=0.5)
    aggregator = Aggregator(settings, 10, 0, 1.0, 1.0)
    sent = {f"c{k}": aggregator.contribute(f"c{k}", UPDATE, 1) for k in range(10)}
    opened = aggregate_in_process({name: one.vector for name, one in sent.items()}, 6).total
    noise = aggregator.mechanism.ring.decode(opened)[:D] * aggregator.mechanism.grid
    assert noise.std() == pytest.approx(aggregator.mechanism.noise_on_sum(10), rel=0.02)
