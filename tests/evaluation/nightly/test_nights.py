"""Nights on a small run with real networks: the panel is public and fixed, a spoilt model is found and named."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from common.weights import registry as weights
from evaluation.figures.charts import save
from evaluation.measuring.significance import paired_permutation
from evaluation.nightly.figures import nights_plot
from evaluation.nightly.measuring import measure_night, newest_models
from evaluation.nightly.nights import (
    Night,
    changes,
    comparable,
    history,
    night_metrics,
    read_nights,
    significantly_worse,
    smallest_p,
)
from evaluation.nightly.public_clips import read_panel
from tests.evaluation.nightly.small_nights import (
    EVALUATION,
    HELD_OUT,
    NIGHTLY,
    PUBLISHED,
    TRAINING,
    add_clip,
    make_run,
    save_adapter,
)

FIRST = date(2026, 1, 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("data") / "run")


@pytest.fixture(autouse=True)
def no_pretrained_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def measure(run: RunFolder, day: int) -> Night:
    return measure_night(run, str(FIRST + timedelta(day)), NIGHTLY, EVALUATION, TRAINING, seed=0)


def test_the_panel_is_public_fixed_and_refuses_clips_that_changed(run: RunFolder) -> None:
    clips, panel = read_panel(run, NIGHTLY, seed=0)
    assert {clip.client for clip in clips} == {*HELD_OUT, *PUBLISHED} and len(clips) == 7
    # The corpus grows and settings ask for more: the panel stays.
    add_clip(run, "p0", 999, "validation")
    again, digest = read_panel(run, NIGHTLY.model_copy(update={"clips_per_person": 2}), seed=3)
    assert [clip.clip_id for clip in again] == [clip.clip_id for clip in clips] and digest == panel
    path = run.nightly / "panel.json"
    kept = path.read_text()
    entries = json.loads(kept)
    entries[0]["content"] = "0" * 16
    path.write_text(json.dumps(entries))
    with pytest.raises(PrivFedTalkError, match="not what it was"):
        read_panel(run, NIGHTLY, seed=0)
    entries[0] |= {"clip_id": "p0/77777"}
    path.write_text(json.dumps(entries))
    with pytest.raises(PrivFedTalkError, match="not there any more"):
        read_panel(run, NIGHTLY, seed=0)
    path.write_text(kept)


@pytest.mark.slow(minutes=0.2)
def test_the_same_models_are_the_same_and_a_spoilt_one_is_named(run: RunFolder, tmp_path: Path) -> None:
    first, second = measure(run, 0), measure(run, 1)
    assert first.people == 7 and set(first.means) == {"backbone", "privfedtalk", "fedavg"}
    assert second.means == first.means and second.models == first.models == newest_models(run)
    found = changes(run, second, first)
    assert len(found) > 12 and all(change.comparison.p_holm == 1 and not change.new_model for change in found)
    assert significantly_worse(found, 0.05) == []

    save_adapter(run, "fedavg", noise_level=1.0)
    third = measure(run, 2)
    assert comparable(read_nights(run)) == (third, second)
    worse = significantly_worse(changes(run, third, second), 0.05)
    assert {change.method for change in worse} == {"fedavg"} and "validation_loss" in {c.metric for c in worse}
    loss = next(change for change in worse if change.metric == "validation_loss")
    assert loss.comparison.p_holm == pytest.approx(smallest_p(7, 3)) and loss.now > loss.before
    said = loss.sentence()
    assert (
        said.startswith("FedAvg: validation loss rose from") and "for 7 of 7 people" in said and "a new model" in said
    )

    save(nights_plot(read_nights(run)), tmp_path / "history.png")
    assert (tmp_path / "history.png").stat().st_size > 10_000
    assert [night for night, _ in history(read_nights(run))["validation_loss"]["fedavg"]] == [
        str(FIRST + timedelta(day)) for day in range(3)
    ]
    assert sorted(path.parent.name for path in (run.nightly / third.night).glob("*/videos")) == sorted(third.means)


def test_nights_of_other_clips_or_settings_are_not_compared() -> None:
    night = Night("2026-01-01", "a", 9, 9, "s", {}, {}, {})
    others = [replace(night, night=f"2026-01-0{day}") for day in range(2, 6)]
    assert comparable([night]) is None
    assert comparable([night, *others], back=3) == (others[3], others[0])
    assert comparable([night, *others], back=30) == (others[3], night)
    assert comparable([night, *others[:2], replace(others[2], panel="b")]) is None
    assert comparable([night, replace(others[0], settings="t"), others[1]]) == (others[1], night)


def test_the_smallest_p_is_that_of_the_permutation_test() -> None:
    for people in (3, 6, 9):
        assert smallest_p(people, 1) == pytest.approx(paired_permutation(np.ones(people), seed=0))
    assert smallest_p(5, 1) > 0.05 > smallest_p(9, 5) and smallest_p(2, 9) == 1


def test_every_judged_metric_has_one_better_direction() -> None:
    assert {"validation_loss", "lip_correlation", "mouth_psnr", "identity"} <= set(night_metrics())


def test_a_run_without_models_and_a_date_that_is_none(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(PrivFedTalkError, match="no trained model"):
        measure_night(RunFolder(tmp_path), "2026-01-01", NIGHTLY, EVALUATION, TRAINING, 0)
    with pytest.raises(ValueError, match="Invalid isoformat"):
        measure_night(run, "yesterday", NIGHTLY, EVALUATION, TRAINING, 0)
