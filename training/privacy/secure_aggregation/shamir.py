"""Shamir's t-of-n sharing of 256-bit secrets over a prime field (Shamir 1979, "How to share a secret")."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from functools import lru_cache

# The smallest prime above 2^256, so that any 32-byte secret is a field element.
PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, threshold: int, holders: Iterable[int]) -> dict[int, bytes]:
    """Shares of a 32-byte secret: any `threshold` of them give it back, fewer say nothing about it.

    holders: distinct x-coordinates, each in [1, PRIME). Every share is 33 bytes, big-endian.
    """
    places = list(holders)
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes, not {len(secret)}")
    if not 1 <= threshold <= len(places) or len(set(places)) != len(places):
        raise ValueError(f"cannot share among {len(places)} holders with threshold {threshold}")
    if any(not 1 <= x < PRIME for x in places):
        raise ValueError("a holder's place must be at least 1: the polynomial's value at 0 is the secret itself")
    polynomial = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {x: _evaluate(polynomial, x).to_bytes(SHARE_BYTES, "big") for x in places}


def combine(shares: Mapping[int, bytes]) -> bytes:
    """The secret from at least `threshold` shares, given by their holder's place.

    Wrong or too few shares give garbage (or ValueError where the result does not even fit 32 bytes), so check the
    result against a commitment.
    """
    values = {x: int.from_bytes(share, "big") for x, share in shares.items()}
    if any(len(share) != SHARE_BYTES for share in shares.values()) or any(v >= PRIME for v in values.values()):
        raise ValueError("a share is not an element of the field")
    weights = lagrange_weights_at_zero(tuple(sorted(shares)))
    secret = sum(weights[x] * values[x] for x in values) % PRIME
    if secret >= 2 ** (8 * SECRET_BYTES):
        raise ValueError("the shares do not belong together")
    return secret.to_bytes(SECRET_BYTES, "big")


@lru_cache(maxsize=8)  # one round opens many secrets from the same holders' shares
def lagrange_weights_at_zero(places: tuple[int, ...]) -> dict[int, int]:
    """λ_x = Π_{y≠x} y/(y−x) mod PRIME: f(0) = Σ λ_x f(x) for every polynomial of degree < len(places)."""
    weights = {}
    for x in places:
        numerator, denominator = 1, 1
        for y in places:
            if y != x:
                numerator = numerator * y % PRIME
                denominator = denominator * (y - x) % PRIME
        weights[x] = numerator * pow(denominator, -1, PRIME) % PRIME
    return weights


def _evaluate(polynomial: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):  # Horner
        value = (value * x + coefficient) % PRIME
    return value
