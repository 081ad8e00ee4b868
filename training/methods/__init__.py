"""The methods that can be compared, each a small file that says how it differs from the full method.

All share data, seeds, sampling, adapter and step budget; a method only changes settings, so that a comparison
compares what it names and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from preparation.errors import PrivFedTalkError
from training.methods import fedavg, privfedtalk
from training.settings import TrainingSettings

METHODS: dict[str, Callable[[TrainingSettings], TrainingSettings]] = {
    "privfedtalk": privfedtalk.configure,
    "fedavg": fedavg.configure,
}


def configure(method: str, settings: TrainingSettings) -> TrainingSettings:
    """The settings under which `method` runs."""
    if method not in METHODS:
        raise PrivFedTalkError(f"unknown method {method!r}", f"choose one of {', '.join(METHODS)}")
    return METHODS[method](settings)
