"""The GPU script's clock: all of it in eight minutes, and what has no time left is said. Its speeds need a GPU."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.__main__ import BUDGET_SECONDS, SECTIONS, START_SECONDS, main, must_end
from benchmarks.gpu.bench import Bench, time_limit
from benchmarks.gpu.subjects import TINY


def test_a_whole_run_ends_within_eight_minutes() -> None:
    assert list(BUDGET_SECONDS) == list(SECTIONS)
    assert START_SECONDS + sum(BUDGET_SECONDS.values()) <= 470
    now, end = 0.0, sum(BUDGET_SECONDS.values())
    for name, budget in BUDGET_SECONDS.items():  # each takes all that it may
        ends = must_end(name, list(SECTIONS), now, end)
        assert ends == now + budget
        now = ends


def test_time_that_was_not_needed_goes_to_those_after_and_what_begins_too_late_is_left_out() -> None:
    chosen = ["vae", "metrics"]
    assert must_end("vae", chosen, 0.0, 100.0) == 100.0 - BUDGET_SECONDS["metrics"]
    assert must_end("metrics", chosen, 30.0, 100.0) == 100.0
    assert must_end("metrics", chosen, 96.0, 100.0) is None
    assert must_end("federation_sd15", ["federation_sd15"], 0.0, 450.0) == 450.0


def test_a_figure_that_takes_too_long_is_stopped_and_the_rest_says_so() -> None:
    bench = Bench(torch.device("cpu"), TINY, None, ends=time.perf_counter() + 0.2)

    def endless(number: int) -> dict[str, float]:
        time.sleep(60)
        return {"never": 1.0}

    with time_limit(0.2):
        bench.try_each("some", [{"number": 1}, {"number": 2}], endless)
    assert ["no time left" in row["error"] for row in bench.results["some"]] == [True, True]
    with pytest.raises(TimeoutError), time_limit(0.05):
        time.sleep(60)
    time.sleep(0.1)  # no alarm outlives its section


def test_the_file_lists_what_was_measured_and_what_was_left_out(tmp_path: Path) -> None:
    out, minutes = tmp_path / "gpu.json", (START_SECONDS + BUDGET_SECONDS["ceiling"] + 1) / 60
    asked = ["--device", "cpu", "--tiny", "--out", str(out), "--minutes", str(minutes), "--only", "ceiling", "profile"]
    assert main(asked) == 0
    found = json.loads(out.read_text())
    assert found["ceiling"][0]["tflops"] > 0 and "profile" not in found
    (left,) = found["left_out"]
    assert left["section"] == "profile" and left["remedy"] == "--only profile"
