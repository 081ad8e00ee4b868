"""Loading the frozen networks that the configuration asks for, once for each worker."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from common.errors import MissingWeightError, PrivFedTalkError
from common.folders import RunFolder
from training.model.frozen.lpips_network import BACKBONES, Lpips
from training.model.frozen.mobilefacenet import MobileFaceNetEmbedder
from training.model.frozen.pixel_terms import PixelTerms
from training.model.frozen.rulers import IdentityRuler, OpeningRuler
from training.model.frozen.speaking import SpeakingTerm
from training.model.frozen.terms import Decode, IdentityTerm, LpipsTerm, MouthMotionTerm, RulerFeaturesTerm
from training.settings import ObjectiveSettings


def open_pixel_terms(run: RunFolder, settings: ObjectiveSettings, decode: Decode) -> PixelTerms | None:
    """The terms that `settings` switch on, or None if there are none.

    A missing network raises MissingWeightError (or PrivFedTalkError) with the name of its term; it is never replaced,
    and no term is left out unless the configuration says so.
    """
    builders: dict[str, Callable[[], nn.Module]] = {
        "identity": lambda: _identity(run, settings.identity.network),
        "perceptual": lambda: _perceptual(run, settings.perceptual.network),
        "sync": lambda: _sync(run, settings.sync.network),
    }
    terms = {name: _open(name, builders[name]) for name in settings.pixel_weights()}
    return PixelTerms(decode, terms, settings.decoded) if terms else None


def _identity(run: RunFolder, network: str) -> nn.Module:
    if network == "mobilefacenet":
        return IdentityTerm(MobileFaceNetEmbedder.load())
    return IdentityTerm(_identity_ruler(run))


def _perceptual(run: RunFolder, network: str) -> nn.Module:
    kind = network.removeprefix("lpips_")
    if kind in BACKBONES:
        return LpipsTerm(Lpips(kind))
    return RulerFeaturesTerm(_identity_ruler(run), _opening_ruler(run))


def _sync(run: RunFolder, network: str) -> nn.Module:
    if network == "light_asd":
        return SpeakingTerm.load()
    return MouthMotionTerm(_opening_ruler(run))


def _identity_ruler(run: RunFolder) -> IdentityRuler:
    return IdentityRuler.load(run.model("rulers") / "identity")


def _opening_ruler(run: RunFolder) -> OpeningRuler:
    return OpeningRuler.load(run.model("rulers") / "opening")


def _open(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except PrivFedTalkError as error:
        kind = MissingWeightError if isinstance(error, MissingWeightError) else PrivFedTalkError
        raise kind(
            f"the {name} term of the local objective has no network: {error.reason}",
            remedy=f"{error.remedy}; or switch the term off: training.objective.{name}.network=none",
        ) from error
