"""The protocol as a whole: exact sums under dropouts, and what the server can and cannot learn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from common.errors import PrivFedTalkError
from training.privacy.mechanisms import release
from training.privacy.mechanisms.distributed_skellam import share_variance
from training.privacy.mechanisms.grid import STEPS_PER_CLIP, Ring, choose_ring, dequantise, quantise
from training.privacy.mechanisms.noise import noise_generator, skellam_noise
from training.privacy.secure_aggregation.in_process import DropStage, aggregate_in_process, new_identities
from training.privacy.secure_aggregation.messages import ProtocolError, RoundAbortedError, RoundTerms
from training.privacy.secure_aggregation.server import Stage
from training.settings.privacy import PrivacySettings

from .protocol_driver import session

STAGES: tuple[DropStage, ...] = ("advertise", "share_keys", "masked_input", "consent", "unmask")


@settings(max_examples=40)
@given(
    n=st.integers(2, 7),
    length=st.integers(1, 40),
    bits=st.sampled_from([32, 64]),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_the_sum_of_survivors_is_exact_or_the_round_aborts(
    n: int, length: int, bits: int, seed: int, data: st.DataObject
) -> None:
    names = [f"client {i}" for i in range(n)]
    threshold = data.draw(st.integers(n // 2 + 1, n))
    falls_silent = {name: data.draw(st.sampled_from([None, None, None, *STAGES])) for name in names}
    drop = {stage: {name for name in names if falls_silent[name] == stage} for stage in STAGES}
    generator = np.random.default_rng(seed)
    vectors = {name: generator.integers(0, 2**bits, length, dtype=f"<u{bits // 8}") for name in names}
    left, aborts_at = n, None
    for stage in STAGES:
        left -= len(drop[stage])
        if left < threshold and aborts_at is None:
            aborts_at = (stage, left)
    if aborts_at is not None:
        with pytest.raises(RoundAbortedError, match=f"stage '{aborts_at[0]}': {aborts_at[1]} clients left"):
            aggregate_in_process(vectors, threshold, drop)
        return
    total, survivors, traffic, _ = aggregate_in_process(vectors, threshold, drop)
    gone_before_masking = drop["advertise"] | drop["share_keys"] | drop["masked_input"]
    assert survivors == set(names) - gone_before_masking
    expected = np.sum([vectors[name] for name in survivors], axis=0, dtype=total.dtype)
    np.testing.assert_array_equal(total, expected)
    for name in survivors:
        assert length * bits // 8 < traffic[name].up < length * bits // 8 + 1000 + 200 * n
        assert traffic[name].down > 0


def test_long_vectors_cross_many_keystream_chunks() -> None:
    generator = np.random.default_rng(0)
    vectors = {f"c{i}": generator.integers(0, 2**32, 100_003, dtype="<u4") for i in range(4)}
    total, survivors, *_ = aggregate_in_process(vectors, 3, {"masked_input": {"c2"}})
    assert survivors == {"c0", "c1", "c3"}
    np.testing.assert_array_equal(total, vectors["c0"] + vectors["c1"] + vectors["c3"])


def test_the_floor_of_survivors_aborts_before_anything_is_opened() -> None:
    vectors = {f"c{i}": np.zeros(3, dtype="<u8") for i in range(6)}
    with pytest.raises(RoundAbortedError, match="4 clients left, 5 needed"):
        aggregate_in_process(vectors, 4, {"masked_input": {"c0", "c1"}}, minimum_survivors=5)
    assert aggregate_in_process(vectors, 4, {"unmask": {"c0", "c1"}}, minimum_survivors=5).survivors == set(vectors)


def test_a_federated_round_through_the_protocol_is_the_plain_sum() -> None:
    """Contributions of real shape: clipped, weighed, quantised, with and without noise, masked, opened."""
    d, C = 500, 0.4
    generator = np.random.default_rng(4)
    for z in (0.0, 0.01):
        settings = PrivacySettings(clip_norm=C, noise_multiplier=z, seeded_noise=1)
        grid, deviation = C / STEPS_PER_CLIP, release.noise_deviation(settings)
        m_min = settings.minimum_survivors(8)
        ring = choose_ring(release.vector_norm_bound(settings), grid, deviation, 8, m_min)
        share = share_variance(deviation, grid, m_min, 0)
        plain, vectors = {}, {}
        for k in range(8):
            delta = generator.normal(size=d).astype(np.float32)
            plain[f"c{k}"] = release.client_vector(delta, 4 + k, k / 8, {"score": k / 8}, settings)
            noise = skellam_noise(share, d + 3, noise_generator(1, k))
            vectors[f"c{k}"] = ring.encode(quantise(plain[f"c{k}"], grid) + noise)
        total, survivors, *_ = aggregate_in_process(
            vectors, settings.share_threshold(8), {"masked_input": {"c5"}}, minimum_survivors=m_min
        )
        opened = dequantise(ring.decode(total), grid)
        error = opened - np.sum([plain[name] for name in survivors], axis=0)
        if z == 0:
            assert np.abs(error).max() <= len(survivors) * grid / 2 + 1e-12
        else:
            assert error.std() == pytest.approx(deviation, rel=0.15)


def test_masked_vectors_look_uniform_and_pairwise_unrelated() -> None:
    here = session(n=4, threshold=3, length=20_000, bits=32)
    here.vectors = {name: np.zeros(20_000, dtype="<u4") for name in here.vectors}  # the easiest vectors to recognise
    here.run_until(Stage.MASKED_INPUT)
    masked = [np.frombuffer(here.answer(name)[-80_064:-64], dtype=np.uint8) for name in sorted(here.clients)]
    for bytes_sent in masked:
        assert stats.chisquare(np.bincount(bytes_sent, minlength=256)).pvalue > 1e-5
    for i, a in enumerate(masked):
        for b in masked[:i]:
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.02
            assert stats.chisquare(np.bincount(a ^ b, minlength=256)).pvalue > 1e-5
            assert stats.chisquare(np.bincount(a - b, minlength=256)).pvalue > 1e-5


def test_the_same_round_again_is_masked_afresh() -> None:
    sent = []
    for _ in range(2):
        here = session(n=3, threshold=2, length=1000).run_until(Stage.MASKED_INPUT)
        sent.append(here.answer("c0000"))
    assert (np.frombuffer(sent[0][-8064:-64], "<u8") == np.frombuffer(sent[1][-8064:-64], "<u8")).sum() == 0


def test_the_transcript_holds_no_plain_vector() -> None:
    """Nothing the server sees holds even eight bytes of any client's vector, of an update, a score or a weight."""
    settings = PrivacySettings(noise_multiplier=0.0)
    plain = release.client_vector(np.linspace(-1, 1, 60), 7, 0.83, {"score": 0.83}, settings)
    ring = Ring(64)
    elements = ring.encode(quantise(plain, 2.0**-20) + 2**40)  # no short runs of zeros to meet by chance
    here = session(n=4, threshold=3, length=elements.size)
    here.vectors = {name: elements + np.uint64(i) for i, name in enumerate(sorted(here.vectors))}
    here.run_stage()
    here.run_stage()
    here.run_stage(drop={"c0003"})
    here.run_until(Stage.DONE)
    everything = b"\0".join(here.transcript)
    for vector in here.vectors.values():
        assert not any(element.tobytes() in everything for element in vector)
    assert plain.tobytes()[:8] not in everything
    np.testing.assert_array_equal(here.server.result(), 3 * elements + np.uint64(3))


def test_the_transcript_holds_no_update_score_or_count_in_any_form() -> None:
    """A client's real contribution, without noise: not one of its numbers is found, whatever it is written as."""
    private, d = PrivacySettings(noise_multiplier=0.0, n_max=2**20), 60
    count, score = 726_113, 0.83719
    names = ("c0000", "c0001", "c0002")
    deltas = {name: np.random.default_rng(i).normal(size=d).astype("<f4") for i, name in enumerate(names)}
    forms = set()
    here = session(n=3, threshold=2, length=d + 3)
    for name, delta in deltas.items():
        plain = release.client_vector(delta, count, score, {"score": score}, private)
        integers = quantise(plain, 2.0**-40)
        here.vectors[name] = Ring(64).encode(integers)
        for numbers in (delta, release.clip(delta, private.clip_norm), plain):
            forms |= {x.tobytes() for kind in ("<f4", "<f8") for x in np.asarray(numbers).astype(kind)}
        forms |= {x.tobytes() for x in integers.astype("<i8")}
    weight = release.isfa_weight(count, score, private.n_max, private.gamma)
    for number in (score, weight, score - 0.5, weight - 0.5, float(count)):
        forms |= {np.array(number, kind).tobytes() for kind in ("<f4", "<f8")}
    forms |= {np.array(count, kind).tobytes() for kind in ("<i4", "<i8")} | {str(count).encode(), str(score).encode()}
    here.run_until(Stage.DONE)
    everything = b"".join(here.transcript)
    found = [form for form in forms if form in everything]
    # Four bytes can be met by chance among random ones; eight cannot.
    assert [form for form in found if len(form) > 4] == []
    assert len(found) <= 1
    np.testing.assert_array_equal(here.server.result(), sum(here.vectors.values()))


def test_the_sum_cannot_be_had_before_the_end() -> None:
    here = session()
    for before, after in pairwise([*list(Stage)]):
        with pytest.raises(ProtocolError, match="before the round ended"):
            here.server.result()
        assert here.server.stage is before
        here.run_stage()
        assert here.server.stage is after
    assert here.server.result().shape == (8,)


@pytest.mark.parametrize(("n", "threshold"), [(4, 2), (5, 2), (5, 6), (5, 0), (2, 1)])
def test_wrong_thresholds_are_refused_at_the_start(n: int, threshold: int) -> None:
    vectors = {f"c{i}": np.zeros(2, dtype="<u8") for i in range(n)}
    with pytest.raises(PrivFedTalkError, match="threshold"):
        aggregate_in_process(vectors, threshold)


def test_wrong_terms_are_refused_at_the_start() -> None:
    keys = {name: key.public_key().public_bytes_raw() for name, key in new_identities({"a", "b", "c"}).items()}
    with pytest.raises(PrivFedTalkError, match="1 clients"):
        RoundTerms("r", 0, {"a": keys["a"]}, 1, 5)
    with pytest.raises(PrivFedTalkError, match="share an identity key"):
        RoundTerms("r", 0, dict.fromkeys("abc", keys["a"]), 2, 5)
    with pytest.raises(PrivFedTalkError, match="not 32 bytes"):
        RoundTerms("r", 0, {**keys, "a": b"short"}, 2, 5)
    with pytest.raises(PrivFedTalkError, match="elements"):
        RoundTerms("r", 0, keys, 2, 2**40)
    with pytest.raises(PrivFedTalkError, match="differ"):
        aggregate_in_process({"a": np.zeros(2, "<u4"), "b": np.zeros(3, "<u4")}, 2)


def test_any_change_of_terms_changes_what_signatures_bind() -> None:
    keys = {name: key.public_key().public_bytes_raw() for name, key in new_identities({"a", "b", "c"}).items()}
    variants = [
        RoundTerms("r", 0, keys, 2, 5),
        RoundTerms("q", 0, keys, 2, 5),
        RoundTerms("r", 1, keys, 2, 5),
        RoundTerms("r", 0, keys, 3, 5),
        RoundTerms("r", 0, keys, 2, 6),
        RoundTerms("r", 0, keys, 2, 5, 32),
        RoundTerms("r", 0, {**keys, "a": keys["b"], "b": keys["a"]}, 2, 5),
        RoundTerms("r", 0, {"a": keys["a"], "b": keys["b"]}, 2, 5),
    ]
    assert len({terms.context for terms in variants}) == len(variants)
