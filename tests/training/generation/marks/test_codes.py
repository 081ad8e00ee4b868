"""The payload's code: what it survives, and that what is no codeword is not taken for one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.generation.marks.codes import coded_length, decode, encode


@given(payload=st.binary(min_size=1, max_size=8))
def test_what_was_encoded_is_decoded(payload: bytes) -> None:
    coded = encode(payload)
    assert len(coded) == coded_length(len(payload))
    assert decode(1 - 2.0 * coded, len(payload)) == payload


@given(payload=st.binary(min_size=6, max_size=6), seed=st.integers(0, 1000))
def test_four_wrong_bits_anywhere_are_mended(payload: bytes, seed: int) -> None:
    """The free distance is 10: up to four errors never lead astray."""
    coded = encode(payload)
    coded[np.random.default_rng(seed).choice(len(coded), 4, replace=False)] ^= 1
    assert decode(1 - 2.0 * coded, 6) == payload


def test_soft_values_count() -> None:
    """Noise of 0.8 a bit flips one in nine; what they weigh tells which to believe."""
    rng = np.random.default_rng(0)
    right = 0
    for _ in range(20):
        payload = rng.bytes(6)
        right += decode(1 - 2.0 * encode(payload) + rng.normal(0, 0.8, coded_length(6)), 6) == payload
    assert right >= 18


def test_noise_is_no_payload() -> None:
    rng = np.random.default_rng(1)
    assert [decode(rng.normal(size=coded_length(6)), 6) for _ in range(30)] == [None] * 30
