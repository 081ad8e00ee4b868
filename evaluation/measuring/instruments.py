"""Opens the instruments that the settings ask for, and says which are missing, why, and which networks are present."""

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
    """Labels of metrics that were not measured, the reason, and the remedy."""

    metrics: tuple[str, ...]
    reason: str
    remedy: str


def openable() -> dict[str, Instrument]:
    """The instruments that `evaluation.instruments` of the configuration may name."""
    return {one.name: one for one in catalogue.instruments() if one.open is not None}


def open_instruments(
    names: Sequence[str], cache: FeatureCache, frames_per_clip: int
) -> tuple[list[Meter], list[Missing]]:
    """Open the instruments of `names` whose networks are present; all other known ones are returned as missing."""
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
    """Raise ValueError where one of `names` is no instrument; settings turn it into their own message."""
    unknown = [name for name in names if name not in openable()]
    if unknown:
        raise ValueError(f"unknown instrument {unknown[0]!r}; choose of {', '.join(openable())}")


def labels_of(instrument: Instrument) -> tuple[str, ...]:
    """The labels of the metrics that an instrument measures."""
    return tuple(one.label for one in catalogue.measured_by(instrument))


def networks_version(settings: EvaluationSettings) -> str:
    """Names and hashes of the present networks among those that the settings ask for.

    The text changes when a network is fetched later, which is a reason to measure again.
    """
    asked = [openable()[name].weight for name in settings.instruments]
    names = ["face_landmarker", KINDS[settings.face_embedder].weight, *(name for name in asked if name)]
    here = {name: path for name in names if (path := weights.find_optional(name)) is not None}
    return " ".join(f"{name}:{weights.sha256_of(path)}" for name, path in sorted(here.items()))
