"""Error correction for the watermark's payload: a checksum, then a convolutional code, with soft decoding."""

from __future__ import annotations

import binascii

import numpy as np
from numpy.typing import NDArray

CONSTRAINT = 7
POLYNOMIALS = (0o133, 0o171)
"""The usual rate-1/2 code with 64 states (free distance 10)."""
RATE = len(POLYNOMIALS)
CHECK_BITS = 16

Bits = NDArray[np.uint8]
"""Zeros and ones [N]."""


def coded_length(payload_bytes: int) -> int:
    """Length in bits of the codeword of `payload_bytes` bytes."""
    return RATE * (8 * payload_bytes + CHECK_BITS + CONSTRAINT - 1)


def encode(payload: bytes) -> Bits:
    """The terminated convolutional codeword of the payload and its CRC-16."""
    checked = payload + binascii.crc_hqx(payload, 0xFFFF).to_bytes(2)
    bits = np.unpackbits(np.frombuffer(checked, np.uint8))
    state, coded = 0, []
    for bit in [*bits, *[0] * (CONSTRAINT - 1)]:
        register = int(bit) << (CONSTRAINT - 1) | state
        coded += _OUTPUTS[register].tolist()
        state = register >> 1
    return np.array(coded, np.uint8)


def decode(soft: NDArray[np.floating], payload_bytes: int) -> bytes | None:
    """The payload of the likeliest codeword, by Viterbi's algorithm; None if its checksum is wrong.

    soft [coded_length]: positive for a zero, negative for a one; its size is the confidence. Of inputs that are not
    codewords, one in 65,536 passes the checksum.
    """
    states = 1 << (CONSTRAINT - 1)
    register = np.arange(2 * states)
    came_from = register & (states - 1)  # the previous state for each content of the register
    metric = np.full(states, -np.inf)
    metric[0] = 0.0
    steps = soft.reshape(-1, RATE)
    chosen = np.zeros((len(steps), states), np.uint8)
    signs = 1.0 - 2.0 * _OUTPUTS
    for number, seen in enumerate(steps):
        arriving = (metric[came_from] + signs @ seen).reshape(states, 2)  # two registers lead to one state
        chosen[number] = arriving.argmax(1)
        metric = arriving.max(1)
    state, bits = 0, []
    for winners in chosen[::-1]:
        bits.append(state >> (CONSTRAINT - 2))
        state = (state << 1 | int(winners[state])) & (states - 1)
    checked = np.packbits(bits[::-1][: 8 * payload_bytes + CHECK_BITS]).tobytes()
    payload, check = checked[:payload_bytes], checked[payload_bytes:]
    return payload if binascii.crc_hqx(payload, 0xFFFF).to_bytes(2) == check else None


def _outputs() -> Bits:
    """The output bits [128, 2] for each content of the register."""
    registers = range(1 << CONSTRAINT)
    return np.array([[(word & mask).bit_count() & 1 for mask in POLYNOMIALS] for word in registers], np.uint8)


_OUTPUTS = _outputs()
