"""Which mechanism each `privacy.mode` is."""

from __future__ import annotations

from training.privacy.mechanisms.base import Mechanism, MechanismTerms
from training.privacy.mechanisms.central_gaussian import CentralGaussian
from training.privacy.mechanisms.distributed_skellam import DistributedSkellam
from training.privacy.mechanisms.no_noise import NoNoise
from training.privacy.mechanisms.paper_literal import PaperLiteral
from training.privacy.mechanisms.poisson_sampling import PoissonSampling
from training.settings.privacy import NO_PROOF, Mode, PrivacySettings

MECHANISMS: dict[Mode, type[Mechanism]] = {
    "distributed": DistributedSkellam,
    "central": CentralGaussian,
    "none": NoNoise,
    NO_PROOF: PaperLiteral,
}


def mechanism_for(
    settings: PrivacySettings, cohort: int, clip_norm: float, seed: int = 0, poisson: PoissonSampling | None = None
) -> Mechanism:
    """The mechanism of one round under these settings: see `Mechanism`."""
    return MECHANISMS[settings.mode](settings, cohort, clip_norm, seed, poisson)


def promised_terms(settings: PrivacySettings, cohort: int, clip_norm: float) -> MechanismTerms:
    """The terms of a round with `cohort` clients, at least one, as the settings promise them to every client."""
    return MECHANISMS[settings.mode].terms_of(settings, cohort, clip_norm)
