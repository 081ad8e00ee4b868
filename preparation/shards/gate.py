"""The gate through which training and evaluation read a person's crops and shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from preparation.clients.gate import CropGate
from preparation.shards.store import Sample, read_shards


@dataclass(frozen=True)
class Gate(CropGate):
    """A `CropGate` that reads prepared samples as well."""

    def samples(self, name: str, split: str | None = None, verify: bool = True) -> Iterator[Sample]:
        """A client's prepared samples, of one split or all; raises at once where they must not be read."""
        self.check(name)
        return read_shards(self.run.client(name), split, verify)
