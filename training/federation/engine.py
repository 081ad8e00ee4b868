"""The interface by which rounds get their updates: one announcement in, every client's update out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from training.federation.client.training import Announcement, LocalUpdate


class Engine(Protocol):
    """Trains the clients of a round."""

    def train(self, clients: Sequence[str], announced: Announcement) -> dict[str, LocalUpdate]:
        """Each client's update from the same announcement, in the order of `clients`."""
        ...
