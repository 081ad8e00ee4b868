"""The asset and its blocking check, on the files that training leaves."""

from __future__ import annotations

import json
from pathlib import Path

from assets.stage.run import Run
from assets.training.privacy import no_false_claims, privacy
from common.folders import RunFolder
from evaluation.settings import EvaluationSettings
from preparation.corpora.studio.settings import StudioSettings
from preparation.settings import CorpusKind, PreparationSettings
from tests.training.privacy_records import round_record, settings_with, write_method
from training.settings import TrainingSettings


def test_the_check_blocks_a_claim_that_does_not_hold(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    run = Run(
        folder, 0, CorpusKind.STUDIO, folder.corpus, StudioSettings(), PreparationSettings(), TrainingSettings(),
        EvaluationSettings(), workers=1,
    )  # fmt: skip
    records = [round_record(1), round_record(2)]
    told = write_method(folder, "privfedtalk", settings_with(seeded_noise=1), records)
    pages = privacy(run).metadata["pages"]
    assert "NOT PRIVATE" in Path(pages[0]).read_text()
    assert no_false_claims(run).passed
    assert all(spec.blocking for spec in no_false_claims.check_specs)
    better = {**told, "private": True, "guarantee_holds": True, "violations": []}
    (folder.federation("privfedtalk") / "privacy.json").write_text(json.dumps(better))
    result = no_false_claims(run)
    assert (
        not result.passed
        and "privfedtalk: not reported: The noise and all other draws came from known seeds" in result.description
    )
