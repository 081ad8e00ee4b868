"""A client's policy: what it was promised before a round, and how it checks the server's terms against that.

A client gets its policy when it joins a run, over a channel that the server of a round does not control. Later terms
of the server can make a round safer than that, never less safe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from training.privacy.mechanisms.factory import promised_terms
from training.privacy.secure_aggregation.messages import ProtocolError, RoundTerms
from training.settings.privacy import PrivacySettings

_ROUNDING = 1e-12  # of products that server and client compute in another order


@dataclass
class ClientPolicy:
    """One client's policy for a round. `check` and `take_part` raise ProtocolError, which names the broken rule.

    settings: the promise that the client joined under (noise multiplier, floor, threshold, colluders, cap).
    directory: client id → raw Ed25519 public key, of everybody who may be in a round with this client.
    clip_norm: C of this round, which the client clipped by (with adaptive clipping it follows from released sums).
    taken_part: numbers of the rounds in which a masked vector of this client has left it; the client keeps them.
    """

    settings: PrivacySettings
    directory: Mapping[str, bytes]
    run_id: str
    clip_norm: float
    taken_part: set[int] = field(default_factory=set)

    def check(self, terms: RoundTerms) -> None:
        """Refuse terms that promise less than this client was promised."""
        for client in terms.clients:
            if self.directory.get(client) != terms.roster[client]:
                raise ProtocolError(client, "its identity key is not the one in the directory")
        if terms.run_id != self.run_id:
            raise _broken(f"opens a round of run {terms.run_id!r}", f"run {self.run_id!r} was joined")
        self._check_rounds(terms)
        self._check_floor(terms)
        self._check_noise(terms)

    def take_part(self, terms: RoundTerms) -> None:
        """Note the round before the masked vector leaves the client: once sent, it may be opened."""
        self._check_rounds(terms)
        self.taken_part.add(terms.round_number)

    def _check_rounds(self, terms: RoundTerms) -> None:
        if terms.round_number in self.taken_part:
            raise _broken(f"opens round {terms.round_number}", "this client has taken part in it already")
        cap = self.settings.max_participation
        if cap is None:
            return
        if terms.max_participation is None or terms.max_participation > cap:
            raise _broken(f"caps participation at {terms.max_participation}", f"{cap} was promised")
        if len(self.taken_part) >= cap:
            raise _broken(f"opens round {terms.round_number}", f"this client has taken part {cap} times, its cap")

    def _check_floor(self, terms: RoundTerms) -> None:
        n = len(terms.clients)
        for name, offered, least in (
            ("a floor", terms.floor, self.settings.minimum_survivors(n)),
            ("a threshold", terms.threshold, self.settings.share_threshold(n)),
            ("a bound on colluders", terms.tolerated_colluders, self.settings.colluders_among(n)),
        ):
            if offered < least:
                raise _broken(f"sets {name} of {offered} among {n} clients", f"at least {least} was promised")

    def _check_noise(self, terms: RoundTerms) -> None:
        n, offered = len(terms.clients), terms.mechanism
        promised = promised_terms(self.settings, n, self.clip_norm)
        if offered.clip_norm != promised.clip_norm:
            raise _broken(f"clips to a norm of {offered.clip_norm:g}", f"this client clipped to {promised.clip_norm:g}")
        if not math.isclose(offered.grid, promised.grid, rel_tol=_ROUNDING):
            raise _broken(f"rounds to a grid of {offered.grid:g}", f"the promised noise takes {promised.grid:g}")
        # Where clients left before the round, the floor may be higher and the shares smaller than this roster asks for.
        # What counts is the noise of the fewest honest survivors together.
        colluders = self.settings.colluders_among(n)
        promised_variance = promised.share_variance * (self.settings.minimum_survivors(n) - colluders)
        if offered.share_variance * (terms.floor - colluders) < promised_variance * (1 - _ROUNDING):
            raise _broken(
                f"wants noise shares of variance {offered.share_variance:.6g}, "
                f"{terms.floor - colluders} of them at least",
                f"variance {promised_variance:.6g} was promised on the sum",
            )


def _broken(does: str, but: str) -> ProtocolError:
    return ProtocolError("server", f"{does}, but {but}")
