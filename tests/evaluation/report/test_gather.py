"""What is gathered of a run is of the models that lie in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.folders import RunFolder
from evaluation.measuring.protocol import copy_reference, evaluate_method
from evaluation.report.gather import gather_results
from tests.evaluation.measuring.test_protocol import NETWORKS, make_clip

CLIPS = [make_clip(index, "c0000") for index in range(2)]


@pytest.mark.parametrize(("measured", "shown"), [("0" * 64, False), (None, True)])
def test_figures_of_an_adapter_that_is_gone_are_left_out_and_said_to_be(
    tmp_path: Path, measured: str | None, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """None: measured before evaluations said of which adapter they are."""
    run = RunFolder(tmp_path)
    for name in ("fedavg", "copy_reference"):
        evaluate_method(name, copy_reference, CLIPS, NETWORKS, folder=run.evaluation(name), speaks=False)
    told: dict[str, Any] = {"together": {}, "missing": [], "adapter": measured}
    (run.evaluation("fedavg") / "instruments.json").write_text(json.dumps(told))
    facts: dict[str, Any] = {"peak_memory_gb": 1.0, "corpus": {}, "face_tracker": "", "seed": 0}
    found = gather_results(run, ["fedavg"], ["copy_reference"], {}, **facts, required=False)
    assert ("fedavg" in found["methods"]) is shown and "copy_reference" in found["methods"]
    assert ("of an earlier adapter" in capsys.readouterr().err) is not shown
