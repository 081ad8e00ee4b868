"""A federation's promise: the mechanism and schedule of its rounds as plain values, in their records and the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.privacy.accounting.epsilon import Release
from training.privacy.accounting.guarantee import release_of
from training.privacy.accounting.schedule import Schedule
from training.settings.privacy import PrivacySettings


def promise(settings: PrivacySettings, schedule: Schedule, dimension: int) -> dict[str, Any]:
    """All that ε follows from except the number of rounds run; `schedule` is the planned one, `dimension` d."""
    own = settings.model_dump(mode="json", exclude={"max_epsilon"})  # which only decides how many rounds are run
    return {
        "settings": own,
        "clients": schedule.clients,
        "per_round": schedule.per_round,
        "sampling": schedule.sampling,
        "dimension": dimension,
        "delta": settings.target_delta(schedule.clients),
    }


def settings_in(promise: Mapping[str, Any]) -> PrivacySettings:
    """The privacy settings of a promise."""
    return PrivacySettings.model_validate(promise["settings"])


def schedule_in(promise: Mapping[str, Any], rounds: int, repeats: int, amplifies: bool) -> Schedule:
    """The schedule of `rounds` rounds under a promise, with `repeats` of them repeated after their sums may have been
    seen; PrivFedTalkError where its numbers do not fit together."""
    cap = settings_in(promise).max_participation
    schedule = Schedule(promise["clients"], promise["per_round"], rounds, promise["sampling"], cap, amplifies)
    return schedule.repeating(repeats)


def release_in(promise: Mapping[str, Any], rounds: int, repeats: int, amplifies: bool) -> Release:
    """A federation of such rounds under a promise, as `epsilon_together` takes it."""
    return release_of(settings_in(promise), schedule_in(promise, rounds, repeats, amplifies), promise["dimension"])
