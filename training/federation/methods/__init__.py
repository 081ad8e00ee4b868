"""The methods that can be compared: each is a small class that defines its difference from FedAvg on adapters.

All methods share data, seeds, sampling, adapter and step budget, so that results differ only by the method.
`training.methods` of the configuration lists the methods that a run trains.

To add a method, write a file with its `Method` and a line in `METHODS`; settings, command line, Dagster's partitions,
tables, figures and pages read that list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from common.errors import PrivFedTalkError
from training.adapters.factors import Factors
from training.federation.methods.ablations import AdaptersOnly, DpOnly, IsfaOnly, TdcOnly
from training.federation.methods.base import Method, ServerRule, resolve
from training.federation.methods.exact_average import ExactAverage, check
from training.federation.methods.fedadam import FedAdam
from training.federation.methods.fedavg import FedAvg
from training.federation.methods.fedprox import FedProx
from training.federation.methods.paper_literal import PaperLiteral
from training.federation.methods.privfedtalk import PrivFedTalk
from training.federation.methods.scaffold import Scaffold
from training.federation.methods.unfederated import Centralized, Local
from training.settings import MethodName, TrainingSettings

METHODS: Mapping[MethodName, Method] = {
    "privfedtalk": PrivFedTalk(),
    "fedavg": FedAvg(),
    "fedprox": FedProx(),
    "scaffold": Scaffold(),
    "fedadam": FedAdam(),
    "centralized": Centralized(),
    "local": Local(),
    "adapters_only": AdaptersOnly(),
    "dp_only": DpOnly(),
    "tdc_only": TdcOnly(),
    "isfa_only": IsfaOnly(),
    "paper_literal": PaperLiteral(),
}
"""Every method by its name, in the order in which tables show them."""


def named(method: str) -> Method:
    """The method of that name."""
    if method not in METHODS:
        raise PrivFedTalkError(f"unknown method {method!r}", f"choose one of {', '.join(METHODS)}")
    return METHODS[method]


def check_names(names: Iterable[MethodName]) -> None:
    """Raise ValueError if one of `names` is not a method; the settings turn the error into their own message."""
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise ValueError(f"unknown method {unknown[0]!r}; choose one of {', '.join(METHODS)}")


def configure(method: str, settings: TrainingSettings) -> TrainingSettings:
    """The settings under which `method` runs."""
    own_groups = [one.own_settings for one in METHODS.values() if one.own_settings]
    resolved = resolve(named(method), method, settings, own_groups)
    check(method, resolved, named(method).averages)
    return resolved


def server_of(method: str, settings: TrainingSettings, factors: Factors | None) -> ServerRule:
    """The method's server rule, wrapped in `ExactAverage` if `adapter.averaging` is fedex.

    `factors` are the adapter's. A method whose clients send nothing needs no correction.
    """
    rule = named(method).server_rule(settings)
    if settings.adapter.averaging != "fedex" or not named(method).sends:
        return rule
    assert factors is not None, "an exact average needs to know where A and B lie in theta"
    return ExactAverage(rule, factors)
