"""Consent refusals as settings of a stage, so that a revoked consent makes the stage due again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from assets.stage.run import Run
from preparation.settings import CorpusKind

if TYPE_CHECKING:
    from preparation.clients.consent import Use


def refusals(run: Run, *uses: Use) -> list[str]:
    """The people, of any role, who are left out of each use, as settings of a stage; empty if nobody is."""
    from preparation.clients.consent import known_people, record_rendered
    from preparation.shards.gate import Gate

    if run.corpus_kind is CorpusKind.STUDIO and run.folder.clients_table.exists():  # runs older than these records
        record_rendered(run.folder)
    people = sorted(known_people(run.folder))
    refused = {use: sorted(Gate(run.folder, use, run.training.consent.required).refused(people)) for use in uses}
    return [json.dumps(refused)] if any(refused.values()) else []
