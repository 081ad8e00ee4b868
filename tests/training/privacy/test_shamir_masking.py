"""Secret sharing and masks by themselves."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import sympy
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from training.privacy.secure_aggregation import masking, shamir


def test_the_field_is_the_smallest_prime_field_that_holds_256_bits() -> None:
    assert sympy.nextprime(2**256) == shamir.PRIME


@given(
    secret=st.binary(min_size=32, max_size=32),
    holders=st.lists(st.integers(1, 4096), min_size=1, max_size=9, unique=True),
    data=st.data(),
)
def test_any_threshold_of_shares_gives_the_secret_back(secret: bytes, holders: list[int], data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, len(holders)))
    shares = shamir.split(secret, threshold, holders)
    chosen = data.draw(st.permutations(holders))[: data.draw(st.integers(threshold, len(holders)))]
    assert shamir.combine({x: shares[x] for x in chosen}) == secret


def test_fewer_shares_fit_every_secret() -> None:
    """t − 1 shares and any guess of the secret lie on a polynomial: they exclude nothing."""
    shares = shamir.split(os.urandom(32), 3, [1, 2, 3])
    guess = os.urandom(32)
    points = {0: int.from_bytes(guess, "big"), **{x: int.from_bytes(shares[x], "big") for x in (1, 2)}}
    third = sum(  # Lagrange at 3 through (0, guess), (1, ·), (2, ·)
        y
        * np.prod([3 - u for u in points if u != x], dtype=object)
        * pow(int(np.prod([x - u for u in points if u != x], dtype=object)), -1, shamir.PRIME)
        for x, y in points.items()
    )
    forged = {1: shares[1], 2: shares[2], 3: (third % shamir.PRIME).to_bytes(33, "big")}
    assert shamir.combine(forged) == guess


def test_senseless_sharing_is_refused() -> None:
    for threshold, holders in ((0, [1, 2]), (3, [1, 2]), (1, [1, 1]), (1, [0, 1])):
        with pytest.raises(ValueError, match=r"share among|place"):
            shamir.split(bytes(32), threshold, holders)
    with pytest.raises(ValueError, match="32 bytes"):
        shamir.split(bytes(31), 1, [1])
    with pytest.raises(ValueError, match="field"):
        shamir.combine({1: b"\xff" * 33})


@given(st.sampled_from(["<u4", "<u8"]), st.integers(0, 3), st.integers(0, 3), st.integers(1, 70_000))
def test_masks_are_counter_mode_keystreams_added_modulo_the_ring(
    dtype: str, plus: int, minus: int, length: int
) -> None:
    generator = random.Random(length)
    keys = [generator.randbytes(32) for _ in range(plus + minus)]
    vector = np.arange(length, dtype=dtype)
    expected = vector.copy()
    for i, key in enumerate(keys):
        stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(vector.nbytes))
        mask = np.frombuffer(stream, dtype=dtype)
        expected = expected + mask if i < plus else expected - mask
    masking.add_masks(vector, keys[:plus], keys[plus:])
    np.testing.assert_array_equal(vector, expected)


def test_keys_differ_by_purpose_round_and_secret() -> None:
    derived = {
        masking.derive_key(secret, context, purpose)
        for secret in (b"a" * 32, b"b" * 32)
        for context in (b"1" * 32, b"2" * 32)
        for purpose in (b"x", b"y")
    }
    assert len(derived) == 8
