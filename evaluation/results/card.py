"""The figures on an adapter's model card, from the run's results.json."""

from __future__ import annotations

import json
from typing import Any

from common.folders import RunFolder
from evaluation.catalogue import columns_for
from training.adapters.folders import Measured
from training.adapters.origin import weights_of


def card_figures(run: RunFolder, method: str) -> Measured:
    """A method's figures in the run's results.json and what they were measured on; empty where there are none.

    The figures are of people who never trained. Figures of clients' held-out clips would reveal something about clips
    that no privacy budget covers.
    """
    if not run.results.exists():
        return {}, ""
    results: dict[str, Any] = json.loads(run.results.read_text(encoding="utf-8"))
    measured = results.get("adapters", {}).get(method)
    if measured is not None and measured != weights_of(run, method):  # measured on an earlier adapter
        return {}, ""
    values = results.get("methods_unseen", {}).get(method, {})
    found = {
        ", ".join(filter(None, (one.label, one.unit))): f"{values[one.key]:.{one.digits}f}"
        for one in columns_for({method: values}, "card")
        if isinstance(values.get(one.key), int | float)
    }
    kind = results.get("corpus", {}).get("kind", "unnamed")
    return found, f"Means over clips of people who took no part, corpus: {kind}"
