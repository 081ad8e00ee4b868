"""The instruments that the settings ask for, opened; what is missing and why; and which of their networks are here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import MissingWeightError, PrivFedTalkError
from common.weights import registry as weights
from evaluation import catalogue
from evaluation.metrics.interface import Instrument, Meter
from evaluation.metrics.networks.features import FeatureCache
from evaluation.settings import EvaluationSettings
from preparation.faces.embedder import KINDS


@dataclass(frozen=True)
class Missing:
    """What was not measured, why, and what would change that."""

    metrics: tuple[str, ...]
    reason: str
    remedy: str


def openable() -> dict[str, Instrument]:
    """The instruments that `evaluation.instruments` of the configuration may name."""
    return {one.name: one for one in catalogue.instruments() if one.open is not None}


def open_instruments(
    names: Sequence[str], cache: FeatureCache, frames_per_clip: int
) -> tuple[list[Meter], list[Missing]]:
    """The instruments asked for that can be had, and for every other known one what is missing."""
    opened: list[Meter] = []
    missing: list[Missing] = []
    for name, instrument in openable().items():
        assert instrument.open is not None, "openable instruments have an `open`"
        labels, weight = labels_of(instrument), instrument.weight
        if name not in names:
            network = f" (its network: `privfedtalk weights fetch {weight}`)" if weight else ""
            missing.append(Missing(labels, "not asked for", f"add {name} to evaluation.instruments{network}"))
            continue
        try:
            opened.append(instrument.open(cache, frames_per_clip))
        except MissingWeightError:
            # Short, and without the folders of this machine: the results are read elsewhere too.
            absent = f"{weights.REGISTRY[weight].file} is not here" if weight else "its network is not here"
            missing.append(Missing(labels, absent, f"privfedtalk weights fetch {weight}"))
        except PrivFedTalkError as error:
            missing.append(Missing(labels, error.reason, error.remedy))
    return opened, missing


def check_instruments(names: Sequence[str]) -> None:
    """Raise ValueError, which settings turn into their own message, where one of `names` is no instrument."""
    unknown = [name for name in names if name not in openable()]
    if unknown:
        raise ValueError(f"unknown instrument {unknown[0]!r}; choose of {', '.join(openable())}")


def labels_of(instrument: Instrument) -> tuple[str, ...]:
    """The labels of what an instrument measures."""
    return tuple(one.label for one in catalogue.measured_by(instrument))


def networks_version(settings: EvaluationSettings) -> str:
    """Which of the pretrained networks that the settings ask for are here, by content: one that is fetched later is a
    reason to measure again."""
    asked = [openable()[name].weight for name in settings.instruments]
    names = ["face_landmarker", KINDS[settings.face_embedder].weight, *(name for name in asked if name)]
    here = {name: path for name in names if (path := weights.find_optional(name)) is not None}
    return " ".join(f"{name}:{weights.sha256_of(path)}" for name, path in sorted(here.items()))
