"""Named vectors in a block of shared memory; only the block's name and layout travel between processes.

The coordinating process makes and unlinks all blocks; workers attach to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from training.federation.methods.base import State

Layout = dict[str, tuple[int, tuple[int, ...], str]]
"""Offset in bytes, shape and dtype by name."""
ALIGNMENT = 64


@dataclass(frozen=True)
class Held:
    """Vectors that lie in the block `name`. Read them before the block is written again."""

    name: str
    layout: Layout


class Block:
    """A block of shared memory that this process owns, or that it has attached to by name."""

    def __init__(self, size: int = 0, name: str | None = None) -> None:
        self._owns = name is None
        self._memory = SharedMemory(name, create=self._owns, size=max(1, size))

    @property
    def name(self) -> str:
        return self._memory.name

    @property
    def size(self) -> int:
        return self._memory.size

    def write(self, vectors: Mapping[str, np.ndarray]) -> Held:
        """Copy the vectors in; they must fit (see `bytes_of`)."""
        layout: Layout = {}
        offset = 0
        for name, vector in vectors.items():
            place = np.ndarray(vector.shape, vector.dtype, self._memory.buf, offset)
            place[...] = vector
            layout[name] = (offset, vector.shape, vector.dtype.str)
            offset += _padded(vector.nbytes)
        return Held(self.name, layout)

    def read(self, layout: Layout) -> State:
        """Copies of the vectors, so that readers do not share memory and the block may be closed at any time."""
        return {
            name: np.ndarray(shape, np.dtype(kind), self._memory.buf, offset).copy()
            for name, (offset, shape, kind) in layout.items()
        }

    def close(self) -> None:
        """Detach, and unlink the block if this process owns it."""
        self._memory.close()
        if self._owns:
            self._memory.unlink()


def bytes_of(vectors: Mapping[str, np.ndarray]) -> int:
    """The size of a block that holds these vectors."""
    return sum(_padded(vector.nbytes) for vector in vectors.values())


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
