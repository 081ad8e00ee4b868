"""Settings of simulated dropouts and faults, and of the server's checks of a round."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from common.settings import HIDDEN, Settings

FaultKind = Literal["nan", "exploding", "zero", "sign_flipped", "stale", "unclipped"]
"""How an update can be wrong; `training.federation.faults` explains them."""


class AvailabilitySettings(Settings):
    """Simulated dropouts. All draws follow from (seed, round, client), so that every method loses the same clients.

    Seconds are simulated: a client needs median_seconds, times its device's factor, times the round's factor;
    both are log-normal. Whoever is past the deadline counts as dropped and is not trained at all.
    """

    before_training: float = Field(0.0, ge=0, le=1, description="chance of never answering the announcement")
    after_training: float = Field(0.0, ge=0, le=1, description="chance of being gone when the update is due")
    during_upload: float = Field(
        0.0, ge=0, le=1, description="chance of falling silent at one of the stages of secure aggregation"
    )
    median_seconds: float = Field(60.0, gt=0, description="simulated seconds of a median client's round")
    device_spread: float = Field(0.5, ge=0, description="standard deviation of the log of a device's factor")
    round_spread: float = Field(0.2, ge=0, description="standard deviation of the log of a round's factor")
    deadline_seconds: float | None = Field(
        None, gt=0, description="who takes longer, in simulated seconds, counts as dropped; null: nobody does"
    )


class FaultSettings(Settings):
    """One kind of unreliable client: the named `clients`, or any, each with `probability` in each round."""

    kind: FaultKind = Field(description="how the update is wrong")
    clients: tuple[str, ...] = Field(
        (), json_schema_extra={HIDDEN: "people"}, description="clients that have the fault; empty: any client"
    )
    probability: float = Field(1.0, gt=0, le=1)
    """Chance of the fault in each round, for each of these clients."""
    rounds_late: int = Field(
        1, ge=1, description="for `stale`: age, in rounds, of the theta that the client trained from"
    )

    @model_validator(mode="after")
    def _everybody_always_leaves_nobody(self) -> FaultSettings:
        if not self.clients and self.probability == 1:
            raise ValueError(
                f"fault {self.kind!r} would strike every client in every round; name clients or a probability"
            )
        return self


class CheckSettings(Settings):
    """When the server takes a round back: theta and all states stay as they were, the privacy cost counts all the same.

    Adapters that are not finite, or give no finite loss, are always taken back.
    """

    norm: bool = Field(
        True, description="refuse a sum longer than clipping and noise allow: some client did not clip. No false alarms"
    )
    worsening: float | None = Field(
        None,
        ge=0,
        description="refuse an adapter whose loss on public speakers is more than this share above the one before; "
        "0.1 stops poisoned rounds and lets ordinary noise pass. null: never",
    )
