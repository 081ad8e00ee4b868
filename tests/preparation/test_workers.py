from __future__ import annotations

import signal
from pathlib import Path

import pytest

from preparation import weights
from preparation.errors import MissingWeightError
from preparation.workers import map_processes


def test_results_come_with_their_items() -> None:
    done = {each.item: each.result for each in map_processes(abs, [-3, 2, -1], workers=2)}
    assert done == {-3: 3, 2: 2, -1: 1}


def test_the_item_that_kills_its_process_is_named_and_the_rest_is_done() -> None:
    """SIGCONT does nothing to a running process; SIGKILL cannot be caught."""
    items = [signal.SIGCONT, signal.SIGKILL, signal.SIGCONT]
    done = list(map_processes(signal.raise_signal, items, workers=1))
    assert sorted((int(each.item), each.died) for each in done) == [(9, True), (18, False), (18, False)]


def test_a_worker_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error comes home as it is; nothing is taken for an item that killed its process."""
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path / "nowhere"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MissingWeightError, match=r"face_landmarker\.task") as caught:
        list(map_processes(abs, [-3, 2, -1], workers=2, initializer=weights.find, initargs=("face_landmarker",)))
    assert weights.ENVIRONMENT_VARIABLE in caught.value.remedy
