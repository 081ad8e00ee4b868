"""What settings alone say against a guarantee: no noise, known noise, a δ that promises nothing."""

from __future__ import annotations

from training.privacy.digits import three_digits
from training.privacy.mechanisms.factory import MECHANISMS
from training.settings.privacy import PrivacySettings, largest_delta


def delta_violations(settings: PrivacySettings, clients: int) -> tuple[str, ...]:
    """Why δ is no promise among so many clients; empty where it is one, or where there is no other."""
    delta, most = settings.target_delta(clients), largest_delta(clients)
    if not settings.has_proof or delta <= most:
        return ()
    return (
        f"δ = {three_digits(delta)} is no promise among {clients} clients: publishing whole clips with that chance "
        f"would keep it. At most {three_digits(most)} is one.",
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
