"""Random draws ("coins") that a theorem or an attack model assumes to be secret, and where they come from.

Amplification by sampling holds against a reader who does not know who was drawn, so cohorts are drawn from a key of the
operating system's entropy that only the coordinator holds. A client's batches and diffusion draws come from the
operating system too: whoever knows them sees far more of a face in an update (`evaluation.attacks.inversion`).

Seeds replace these sources exactly where `PrivacySettings.secret_coins` is false: the noise is seeded and the report
says NOT PRIVATE, or nothing is promised. Then (seed, round, client) reproduce every draw on every machine.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass

import numpy as np

from common import seeding
from training.settings.privacy import PrivacySettings

KEY_BYTES = 32


@dataclass(frozen=True)
class Coins:
    """The source of one federation's cohort draws: a secret `key`, or the public `seed` where there is no key."""

    seed: int
    key: bytes | None = None

    @classmethod
    def toss(cls, settings: PrivacySettings, seed: int) -> Coins:
        """New coins for one federation under `settings`. Each federation needs its own: draws must be independent."""
        return cls(seed, secrets.token_bytes(KEY_BYTES) if settings.secret_coins else None)

    def of_block(self, block: int) -> np.random.Generator:
        """The generator of a block's allocation. It is the same for all rounds of the block, and for those that are
        repeated: a client is in one of them."""
        return self._generator(("allocation", str(block)))

    def of_round(self, number: int, attempt: int = 1) -> np.random.Generator:
        """The generator of a round's cohort draw. A round that is repeated after its sum may have been opened draws a
        new cohort, because accountants treat the two sums as independent rounds. From a seed every attempt draws the
        same cohort."""
        return self._generator(("cohort", str(number)), str(attempt))

    def _generator(self, draw: tuple[str, ...], *attempt: str) -> np.random.Generator:
        if self.key is None:
            return seeding.generator(self.seed, *draw)
        digest = hmac.digest(self.key, "\x1f".join((*draw, *attempt)).encode(), "sha256")
        return np.random.Generator(np.random.PCG64DXSM(int.from_bytes(digest, "little")))


def client_draws(settings: PrivacySettings, seed: int, *labels: str) -> np.random.Generator:
    """The generator of a client's batches and diffusion draws: fresh entropy, kept nowhere, or (seed, labels)."""
    if settings.secret_coins:
        return np.random.Generator(np.random.PCG64DXSM(secrets.randbits(8 * KEY_BYTES)))
    return seeding.generator(seed, *labels)
