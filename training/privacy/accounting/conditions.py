"""Reasons in the settings alone why no guarantee holds: no noise, known noise, too large a δ."""

from __future__ import annotations

from training.privacy.digits import three_digits
from training.privacy.mechanisms.factory import MECHANISMS
from training.settings.privacy import PrivacySettings, largest_delta


def delta_violations(settings: PrivacySettings, clients: int) -> tuple[str, ...]:
    """Why δ is too large for this number of clients; empty where it is not, or where the mode has no guarantee."""
    delta, most = settings.target_delta(clients), largest_delta(clients)
    if not settings.has_proof or delta <= most:
        return ()
    return (
        f"δ = {three_digits(delta)} is no promise among {clients} clients: publishing each client's clips whole with "
        f"that probability would keep it. It may be at most {three_digits(most)}.",
    )


def settings_violations(settings: PrivacySettings) -> tuple[str, ...]:
    """Why the settings alone give no guarantee; empty where they give one."""
    found = []
    if why := MECHANISMS[settings.mode].no_guarantee:
        found.append(why)
    elif settings.noise_multiplier == 0:
        found.append("The noise multiplier is 0: no noise was added.")
    elif settings.seeded_noise is not None:
        found.append(
            "The noise and all other draws came from known seeds, so that runs repeat exactly: whoever knows them can "
            "subtract the noise. Sound on rendered or public data only; ε and δ are what the same run would have with "
            "secret draws."
        )
    if settings.tuned_on_clients and settings.has_proof:
        found.append("Settings or checkpoints were chosen by clients' private figures, which no budget paid for.")
    return tuple(found)
