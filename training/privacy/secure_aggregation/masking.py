"""Masks: a 256-bit key stretched to a vector of ring elements by AES-256 in counter mode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from training.privacy.mechanisms.grid import RingVector

KEY_BYTES = 32
# Keystream and the piece of the vector it is added to both stay in the second-level cache.
_CHUNK_BYTES = 2**17
_ZEROS = bytes(_CHUNK_BYTES)


def derive_key(secret: bytes, context: bytes, purpose: bytes) -> bytes:
    """HKDF-SHA256: a key for one purpose in one round. `context` is the hash of the round's terms."""
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=context, info=purpose).derive(secret)


def add_masks(vector: RingVector, plus: Sequence[bytes], minus: Sequence[bytes]) -> None:
    """vector += Σ mask(k), k in plus, − Σ mask(k), k in minus; in place, modulo 2^bits.

    A key must serve one vector only: the counter starts at zero each time.
    """
    streams = [
        (Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor(), subtract)
        for keys, subtract in ((plus, False), (minus, True))
        for key in keys
    ]
    buffer = np.empty(_CHUNK_BYTES, dtype=np.uint8)
    elements = _CHUNK_BYTES // vector.itemsize
    for start in range(0, vector.size, elements):
        piece = vector[start : start + elements]
        bytes_wanted = piece.nbytes
        keystream = buffer[:bytes_wanted]
        mask = keystream.view(vector.dtype)
        zeros = memoryview(_ZEROS)[:bytes_wanted]
        for stream, subtract in streams:
            stream.update_into(zeros, keystream.data)
            if subtract:
                np.subtract(piece, mask, out=piece)
            else:
                np.add(piece, mask, out=piece)
